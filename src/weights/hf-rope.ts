/**
 * The RoPE fields of a config.json in both spellings: `rope_theta` beside `rope_scaling`, as the
 * transformers library wrote them up to version 4, and `rope_parameters`, as version 5 does.
 */
import { ConfigFields } from './hf-fields.ts'
import { isJsonObject, type JsonObject } from './json.ts'
import type { ModelConfig, RopeScaling } from './model-config.ts'

const DEFAULT_THETA = 10_000
const SUPPORTED_TYPES = 'default, linear, llama3'

interface RopeFields {
  /** `undefined`: not given here. */
  readonly theta: number | undefined
  readonly scaling: RopeScaling
}

/**
 * @param layerTypes kinds of attention that the model's layers have; RoPE may be given per kind
 * @param positions `max_position_embeddings`
 * @throws CoppiceError UNSUPPORTED_ARCHITECTURE for a rescaling other than linear and llama3, RoPE that
 *   differs between layers or covers a part of a head, and fields that contradict each other
 */
export function readRope(
  fields: ConfigFields,
  layerTypes: ReadonlySet<string>,
  positions: number,
): ModelConfig['rope'] {
  fields.unsupported('partial_rotary_factor', '1', (value) => value === 1)
  const theta = fields.positive('rope_theta', undefined)
  const originalPositions = fields.integer('original_max_position_embeddings', undefined)
  const spellings: { field: string; rope: RopeFields }[] = []
  for (const field of ['rope_parameters', 'rope_scaling']) {
    for (const object of dictionaries(fields, field, layerTypes)) {
      const where = `${fields.where}: ${field}`
      spellings.push({ field, rope: readDictionary(object, where, originalPositions, positions) })
    }
  }
  if (spellings.length === 0) return { theta: theta ?? DEFAULT_THETA, scaling: { type: 'none' } }
  const [first, ...others] = spellings
  const thetaOf = ({ rope }: (typeof spellings)[number]): number => rope.theta ?? theta ?? DEFAULT_THETA
  for (const other of others) {
    if (
      thetaOf(other) !== thetaOf(first) ||
      JSON.stringify(other.rope.scaling) !== JSON.stringify(first.rope.scaling)
    ) {
      throw fields.refusal(
        other.field,
        other.field === first.field ? 'the same RoPE in all layers' : `the same RoPE as in ${first.field}`,
      )
    }
  }
  if (theta !== undefined && first.rope.theta !== undefined && theta !== first.rope.theta) {
    throw fields.refusal('rope_theta', `the same value as in ${first.field}, ${first.rope.theta}`)
  }
  return { theta: thetaOf(first), scaling: first.rope.scaling }
}

/** The objects of one field: none, one for all layers, or one per kind of layer that the model has. */
function dictionaries(fields: ConfigFields, field: string, layerTypes: ReadonlySet<string>): JsonObject[] {
  const value = fields.value(field)
  if (value === undefined || value === null) return []
  if (!isJsonObject(value)) throw fields.malformed(field, 'an object')
  const items = Object.values(value)
  if (items.length === 0) return []
  const isPerType = items.every((item) => item === null || isJsonObject(item)) && items.some(isJsonObject)
  if (!isPerType) return [value]
  return [...layerTypes].map((layerType) => {
    const own = Object.hasOwn(value, layerType) ? value[layerType] : undefined
    if (!isJsonObject(own)) throw fields.refusal(field, `an entry for ${layerType}, which layers of this model are`)
    return own
  })
}

function readDictionary(
  object: JsonObject,
  where: string,
  configOriginalPositions: number | undefined,
  positions: number,
): RopeFields {
  const fields = new ConfigFields(object, where)
  const oldType = fields.text('type', 'default')
  const type = fields.text('rope_type', oldType)
  if (fields.value('type') !== undefined && fields.value('rope_type') !== undefined && type !== oldType) {
    throw fields.refusal('type', `the same value as rope_type, "${type}"`)
  }
  const typeField = fields.value('rope_type') === undefined ? 'type' : 'rope_type'
  const theta = fields.positive('rope_theta', undefined)
  fields.unsupported('partial_rotary_factor', '1', (value) => value === 1)
  const originalPositions = fields.integer('original_max_position_embeddings', undefined)
  const scaling = readScaling()
  fields.refuseOthers()
  return { theta, scaling }

  function readScaling(): RopeScaling {
    switch (type) {
      case 'default':
        fields.unsupported('factor', '1 for the type default', (value) => value === 1)
        return { type: 'none' }
      case 'linear':
        return { type: 'linear', factor: required('factor') }
      case 'llama3': {
        if (
          configOriginalPositions !== undefined &&
          (originalPositions ?? configOriginalPositions) !== configOriginalPositions
        ) {
          throw fields.refusal(
            'original_max_position_embeddings',
            `the same value as outside, ${configOriginalPositions}`,
          )
        }
        return {
          type: 'llama3',
          factor: required('factor'),
          lowFrequencyFactor: required('low_freq_factor'),
          highFrequencyFactor: required('high_freq_factor'),
          originalPositions: originalPositions ?? configOriginalPositions ?? positions,
        }
      }
      default:
        throw fields.refusal(typeField, SUPPORTED_TYPES)
    }
  }

  function required(name: string): number {
    const value = fields.positive(name, undefined)
    if (value === undefined) throw fields.malformed(name, `a positive number for the type ${type}`)
    return value
  }
}

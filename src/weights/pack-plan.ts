/** What becomes of a checkpoint: the files of the packed model, each with the tensors that go into it. */
import type { Kind } from '../tensor/layout.ts'
import { readHfConfig } from './hf-config.ts'
import type { ModelConfig } from './model-config.ts'
import { chooseKind, EDGES_NAME, edgesLayout, layerFileName, layerLayout, quantisationOf } from './packed-layout.ts'
import type { FilePlan } from './packed-writer.ts'
import { openSafetensors, type Safetensors } from './safetensors.ts'
import { type CheckpointNames, resolveNames } from './tensor-names.ts'

export interface PackPlan {
  readonly config: ModelConfig
  readonly kind: Kind
  /** Open; whoever made the plan closes it. */
  readonly checkpoint: Safetensors
  readonly names: CheckpointNames
  /** One per layer, then the edges. */
  readonly files: readonly FilePlan[]
}

/**
 * The same for the same source, in whatever thread.
 * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | UNSUPPORTED_FORMAT | UNSUPPORTED_ARCHITECTURE | FILE_SYSTEM
 */
export function planPacking(source: string, weights: 'auto' | Kind): PackPlan {
  const config = readHfConfig(source)
  const kind = chooseKind(weights, config)
  const checkpoint = openSafetensors(source)
  try {
    const names = resolveNames(config, checkpoint.tensors, source)
    const layout = layerLayout(config, kind)
    const files = [
      ...names.layers.map((recipes, layer) => ({ name: layerFileName(layer), layout, recipes })),
      { name: EDGES_NAME, layout: edgesLayout(config, quantisationOf(kind).edges), recipes: names.edges },
    ]
    return { config, kind, checkpoint, names, files }
  } catch (error) {
    checkpoint.close()
    throw error
  }
}

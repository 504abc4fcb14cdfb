/** Logits of a chain or a tree of tokens after a prefix, in one pass. */
import { CoppiceError } from '../errors.ts'
import type { Transformer } from './transformer.ts'

export interface LogitsRequest {
  readonly prefix?: readonly number[]
  readonly tokens: readonly number[]
  /** -1: child of the last prefix token; absent: a chain. */
  readonly parents?: readonly number[]
}

/** [rows][vocab] f32: row i is what the model says after `tokens[i]`. */
export interface LogitsTable {
  readonly rows: number
  readonly vocab: number
  readonly data: Float32Array
}

/** Tells the layer store whether the coming passes use the output head. */
export interface HeadHint {
  headFollows: boolean
}

/**
 * @throws CoppiceError INVALID_INPUT for tokens or parents that make no sense; CONTEXT_OVERFLOW
 *   when prefix and tokens do not fit
 */
export function treeLogits(target: Transformer, hint: HeadHint, request: LogitsRequest): LogitsTable {
  checkLists(request)
  const prefix = request.prefix ?? []
  const { tokens, parents } = request
  check(target, prefix, tokens, parents)
  const vocab = target.config.vocabulary
  const data = new Float32Array(tokens.length * vocab)
  target.cache.truncate(0)
  hint.headFollows = false
  prefill(target, prefix)
  hint.headFollows = true
  if (parents === undefined) {
    for (let start = 0; start < tokens.length; ) {
      const count = addChain(target, tokens, start)
      target.forward()
      target.cache.extend(count)
      readLogits(target, count, data, start)
      start += count
    }
  } else {
    target.batch.clear()
    tokens.forEach((token, i) => {
      target.batch.addTreeRow(token, target.cache.scratchStart + i, prefix.length, parents[i])
    })
    target.forward()
    readLogits(target, tokens.length, data, 0)
  }
  return { rows: tokens.length, vocab, data }
}

function addChain(target: Transformer, tokens: readonly number[], start: number): number {
  const { batch, cache } = target
  const count = Math.min(batch.capacity, tokens.length - start)
  batch.clear()
  for (let i = 0; i < count; i++) batch.addPrefixRow(tokens[start + i], cache.length + i)
  return count
}

function prefill(target: Transformer, prefix: readonly number[]): void {
  for (let start = 0; start < prefix.length; ) {
    const count = addChain(target, prefix, start)
    target.forward()
    target.cache.extend(count)
    start += count
  }
}

function readLogits(target: Transformer, rows: number, data: Float32Array, firstRow: number): void {
  const vocab = target.config.vocabulary
  for (let start = 0; start < rows; start += target.headRows) {
    const count = Math.min(target.headRows, rows - start)
    target.head(Array.from({ length: count }, (_, i) => start + i))
    for (let i = 0; i < count; i++) data.set(target.logitsView(i), (firstRow + start + i) * vocab)
  }
}

/** The request may come from code without types. */
function checkLists(request: LogitsRequest): void {
  const { prefix = [], tokens, parents = [] } = request
  for (const [name, list] of Object.entries({ prefix, tokens, parents })) {
    if (!Array.isArray(list)) throw new CoppiceError('INVALID_INPUT', `${name} must be a list of integers`)
  }
}

function check(
  target: Transformer,
  prefix: readonly number[],
  tokens: readonly number[],
  parents: readonly number[] | undefined,
): void {
  const { vocabulary } = target.config
  const invalid = (message: string): never => {
    throw new CoppiceError('INVALID_INPUT', message)
  }
  for (const [name, list] of [
    ['prefix', prefix],
    ['tokens', tokens],
  ] as const) {
    list.forEach((token, i) => {
      if (!Number.isInteger(token) || token < 0 || token >= vocabulary) {
        invalid(`${name}[${i}] is ${token}; token ids of this model are integers from 0 to ${vocabulary - 1}`)
      }
    })
  }
  if (tokens.length === 0) invalid('tokens is empty; give at least one token')
  const { context, scratch } = target.cache
  if (parents === undefined) {
    if (prefix.length + tokens.length > context) overflow(prefix.length + tokens.length, context)
    return
  }
  if (prefix.length > context) overflow(prefix.length, context)
  if (parents.length !== tokens.length) invalid(`parents has ${parents.length} entries, tokens has ${tokens.length}`)
  if (tokens.length > Math.min(scratch, target.batch.capacity)) {
    invalid(
      `a tree of ${tokens.length} tokens is larger than this model was loaded for (${Math.min(scratch, target.batch.capacity)}); load with more nodes`,
    )
  }
  parents.forEach((parent, i) => {
    if (!Number.isInteger(parent) || parent < -1 || parent >= i) {
      invalid(`parents[${i}] is ${parent}; a parent is -1 or the index of an earlier token`)
    }
  })
}

function overflow(needed: number, context: number): never {
  throw new CoppiceError(
    'CONTEXT_OVERFLOW',
    `${needed} positions are needed, but this model was loaded with a context of ${context}; load with a larger one`,
  )
}

/** The rows of one forward pass, as the kernels read them: prompt tokens or the nodes of a tree. */
import type { Arena, Region } from '../tensor/arena.ts'

/** i32 words: token, position, slot, prefix, ancestor offset per row; then the ancestor lists. */
export const rowBatchBytes = (capacity: number): number => 4 * (5 * capacity + 1 + (capacity * (capacity + 1)) / 2)

export function rowBatchRegion(name: string, capacity: number): Region {
  return { name, bytes: rowBatchBytes(capacity) }
}

const copyWords = (target: Int32Array, source: Int32Array, count: number): void => target.set(source.subarray(0, count))

export class RowBatch {
  readonly capacity: number
  count = 0
  readonly tokens: Int32Array
  readonly positions: Int32Array
  readonly slots: Int32Array
  /** Row r sees cache slots `[0, prefixes[r])`, where slot = position, */
  readonly prefixes: Int32Array
  /** and then `ancestorSlots[ancestorOffsets[r] .. ancestorOffsets[r + 1])`, root side first, itself last. */
  readonly ancestorOffsets: Int32Array
  readonly ancestorSlots: Int32Array

  constructor(arena: Arena, name: string, capacity: number) {
    this.capacity = capacity
    const region = rowBatchRegion(name, capacity)
    const pointer = arena.allocate(name, region.bytes)
    const array = (word: number, length: number): Int32Array => arena.i32(pointer + word * 4, length)
    this.tokens = array(0, capacity)
    this.positions = array(capacity, capacity)
    this.slots = array(2 * capacity, capacity)
    this.prefixes = array(3 * capacity, capacity)
    this.ancestorOffsets = array(4 * capacity, capacity + 1)
    this.ancestorSlots = array(5 * capacity + 1, (capacity * (capacity + 1)) / 2)
  }

  clear(): void {
    this.count = 0
    this.ancestorOffsets[0] = 0
  }

  /** Becomes what the kernels read of another batch, which lies in another memory. */
  copyFrom(other: RowBatch): void {
    const { count } = other
    this.count = count
    copyWords(this.slots, other.slots, count)
    copyWords(this.prefixes, other.prefixes, count)
    copyWords(this.ancestorOffsets, other.ancestorOffsets, count + 1)
    copyWords(this.ancestorSlots, other.ancestorSlots, other.ancestorOffsets[count])
  }

  /** Adds the next token of the prefix: it is stored at slot `position` and sees all positions up to its own. */
  addPrefixRow(token: number, position: number): number {
    return this.#add(token, position, position, position + 1, this.ancestorOffsets[this.count])
  }

  /**
   * Adds a tree node. `parentRow` is its parent's row in this batch when the parent is a node too, or
   * -1 when it is a child of the last prefix token.
   * @param slot where its key and value go; @param prefix committed positions that it sees
   */
  addTreeRow(token: number, slot: number, prefix: number, parentRow: number): number {
    let end = this.ancestorOffsets[this.count]
    if (parentRow >= 0) {
      for (let i = this.ancestorOffsets[parentRow]; i < this.ancestorOffsets[parentRow + 1]; i++) {
        this.ancestorSlots[end++] = this.ancestorSlots[i]
      }
    }
    return this.#finishTreeRow(token, slot, prefix, end)
  }

  /** Adds a tree node whose ancestors' slots (root side first) are given; they may lie outside this batch. */
  addTreeRowWithAncestors(token: number, slot: number, prefix: number, ancestors: readonly number[]): number {
    let end = this.ancestorOffsets[this.count]
    for (const ancestor of ancestors) this.ancestorSlots[end++] = ancestor
    return this.#finishTreeRow(token, slot, prefix, end)
  }

  #finishTreeRow(token: number, slot: number, prefix: number, ancestorsEnd: number): number {
    this.ancestorSlots[ancestorsEnd] = slot
    const depth = ancestorsEnd - this.ancestorOffsets[this.count]
    return this.#add(token, prefix + depth, slot, prefix, ancestorsEnd + 1)
  }

  #add(token: number, position: number, slot: number, prefix: number, ancestorsEnd: number): number {
    const row = this.count++
    this.tokens[row] = token
    this.positions[row] = position
    this.slots[row] = slot
    this.prefixes[row] = prefix
    this.ancestorOffsets[row + 1] = ancestorsEnd
    return row
  }
}

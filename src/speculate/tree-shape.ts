/**
 * Trees whose shape is known before any token is: the places that promise most if the i-th guess after a node is
 * accepted with a chance that depends on i alone (Sequoia, arXiv 2402.12374, section 3.1).
 */
import { ROOT } from './token-tree.ts'

export interface TreeShape {
  /** Places without the root, which is place 0. The most promising come first, so any number of the first is a tree. */
  readonly size: number
  /** Parent by place; -1 for the root. */
  readonly parent: readonly number[]
  /** Root 0, its children 1, and so on. */
  readonly depth: readonly number[]
  /** Children by place, the most promising first. */
  readonly children: readonly (readonly number[])[]
}

export interface ShapeLimits {
  readonly size: number
  /** Longest path. */
  readonly depth: number
  /** Places that may have children, the root among them. */
  readonly parents: number
}

/** @param chances of the guesses after a node, falling; no node has more children than there are chances */
export function treeShape(chances: readonly number[], limits: ShapeLimits): TreeShape {
  const parent = [-1]
  const depth = [0]
  const promise = [1]
  const children: number[][] = [[]]
  let parents = 0
  while (parent.length <= limits.size) {
    let best = -1
    let most = 0
    for (let place = ROOT; place < parent.length; place++) {
      const next = children[place].length
      if (next === chances.length || depth[place] === limits.depth || (next === 0 && parents === limits.parents))
        continue
      const promised = promise[place] * chances[next]
      if (promised <= most) continue
      best = place
      most = promised
    }
    if (best < 0) break
    if (children[best].length === 0) parents++
    children[best].push(parent.length)
    parent.push(best)
    depth.push(depth[best] + 1)
    promise.push(most)
    children.push([])
  }
  return { size: parent.length - 1, parent, depth, children }
}

/** What planning itself takes, without the models: the decisions, the order of candidates and the learning of a pass. */
import { Calibration } from '../src/speculate/calibration.ts'
import { CandidateTree } from '../src/speculate/candidate-tree.ts'
import { BRANCHING } from '../src/speculate/child-ranking.ts'
import { MixingJudge } from '../src/speculate/judge.ts'
import { PassCosts } from '../src/speculate/pass-costs.ts'
import { Planner } from '../src/speculate/planner.ts'

const NODES = 63
const ROWS = 8
const IDS = Array.from({ length: BRANCHING }, (_, i) => i)
const PROMISED = [0.6, 0.15, 0.08, 0.05, 0.03, 0.02, 0.01, 0.01]

/** @returns microseconds per pass of the target before which the draft made so many passes */
export function planningMicroseconds(draftPasses: number): number {
  const costs = new PassCosts(NODES + 1, ROWS)
  const calibration = new Calibration(BRANCHING)
  const planner = new Planner(costs, calibration, NODES, ROWS)
  const judge = new MixingJudge([calibration], 1)
  const grown = new CandidateTree((draftPasses + 1) * ROWS * BRANCHING, [1])
  const expand = (node: number): void => {
    grown.offer(node, 0, { ids: IDS, promised: PROMISED, count: BRANCHING })
    grown.settle(judge)
  }
  for (const rows of [1, 8, 16, 32, 64]) costs.observePass(rows, 0.01 * rows, 0.5)
  for (let rows = 1; rows <= ROWS; rows++) costs.observeDraft(rows, 0.002)
  const pass = (): void => {
    grown.reset(0)
    expand(0)
    for (let made = 0; ; made++) {
      const next = [...grown.bestUnexpanded(1, ROWS, NODES, NODES)]
      const chances = next.map((node) => Math.exp(grown.tree.logProb[node]))
      const growth = {
        size: Math.min(NODES, grown.size),
        chanceAt: (place: number) => grown.chanceAt(place),
        next: chances,
        depth: 1,
        seconds: 0.002 * made,
      }
      planner.expand(growth)
      if (made === draftPasses) {
        planner.cut(growth)
        break
      }
      for (const node of next) expand(node)
    }
    for (let i = 0; i < 5 * BRANCHING; i++) calibration.observe(i % BRANCHING, PROMISED[i % BRANCHING], i % 8 === 0)
    costs.observePass(20, 0.2, 0.5)
    planner.observe({ nodes: 20, tokens: 4, draftSeconds: 0.02, passSeconds: 0.5 })
  }
  const times = Array.from({ length: 2000 }, () => {
    const began = performance.now()
    pass()
    return (performance.now() - began) * 1000
  })
  return times.slice(1000).sort((a, b) => a - b)[500]
}

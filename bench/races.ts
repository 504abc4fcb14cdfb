/** Policies on the same prompts, whose texts must be the same. */
import { Noise } from '../src/generate/noise.ts'
import { type Completion, type LoadOptions, load, type Model } from '../src/index.ts'
import { isLoop } from './loops.ts'
import type { Policy } from './policies.ts'
import type { BenchPrompt } from './prompts.ts'

/** What one policy made of one prompt. */
export interface Result {
  readonly policy: Policy
  readonly prompt: BenchPrompt
  readonly completion: Completion
}

export interface Race {
  readonly directory: string
  /** What the policies have in common. */
  readonly common: LoadOptions
  /** Plain decoding first: results come in this order. */
  readonly policies: readonly Policy[]
  readonly prompts: readonly BenchPrompt[]
  readonly temperature: number
  readonly tokens: number
  /**
   * Whether drafters know what was written after the prompts before; otherwise only what was in the same session.
   * Nothing of another round is known in any case: the texts are the same. Default true.
   */
  readonly isWarm?: boolean
}

export const decodeSeconds = ({ stats }: Completion): number => stats.seconds.total - stats.seconds.prefill

/** Tokens per second of decoding. */
export const rate = ({ completion }: Result): number => completion.stats.tokens / decodeSeconds(completion)

export const of = (results: readonly Result[], policy: Policy): Result[] => results.filter((r) => r.policy === policy)

/** Tokens per pass of the target over all texts. */
export function perPass(results: readonly Result[]): number {
  const sum = (of: (r: Result) => number): number => results.reduce((total, r) => total + of(r), 0)
  return sum((r) => r.completion.stats.tokens) / sum((r) => r.completion.stats.passes)
}

/** @param owner of the text, who shares what was learnt with nobody */
async function write(
  model: Model,
  { tokens, replay }: BenchPrompt,
  race: Pick<Race, 'temperature' | 'tokens'>,
  owner: string,
) {
  const maxTokens = Math.min(race.tokens, replay?.length ?? race.tokens)
  const call = { temperature: race.temperature, seed: 7, maxTokens, ignoreEos: true, owner }
  return await model.complete({ tokens }, replay === undefined ? call : { ...call, replay })
}

function ownerOf(prompt: BenchPrompt, { prompts, isWarm = true }: Race, round: number): string {
  return isWarm ? `round ${round}` : `round ${round}, ${prompt.session ?? prompts.indexOf(prompt)}`
}

/**
 * Outputs that go in circles are guessed without error by anything, and say nothing.
 * @param directory the target that is to be measured; here it writes in memory
 * @param most prompts, at which to end
 * @returns the first prompts of every category after which it writes something else, and how many were tried
 */
export async function withoutLoops(
  directory: string,
  prompts: readonly BenchPrompt[],
  perCategory: number,
  race: Pick<Race, 'temperature' | 'tokens'>,
  most = Number.POSITIVE_INFINITY,
): Promise<{ kept: BenchPrompt[]; tried: number }> {
  const model = await load(directory, { draft: 'none', context: 512 })
  const kept: BenchPrompt[] = []
  let tried = 0
  try {
    for (const prompt of prompts) {
      if (kept.length === most) break
      if (kept.filter(({ category }) => category === prompt.category).length === perCategory) continue
      tried++
      if (!isLoop((await write(model, prompt, race, '')).tokens)) kept.push(prompt)
    }
  } finally {
    await model.close()
  }
  return { kept, tried }
}

class Texts {
  /** Those that were written first. */
  readonly #first = new Map<BenchPrompt, Result>()

  check(result: Result): void {
    const { policy, prompt, completion } = result
    const first = this.#first.get(prompt)
    if (first === undefined) this.#first.set(prompt, result)
    else if (completion.tokens.join() !== first.completion.tokens.join()) {
      throw new Error(`"${policy.name}" and "${first.policy.name}" wrote different texts: please report this`)
    }
  }
}

/**
 * All policies at once in memory, each prompt written by all of them in turn, `rounds` times: medians by seconds.
 *
 * Models are loaded anew for every round: of the same model twice in one process one is up to 4 % faster for as long as
 * it lives, wherever that comes from. One text is written before those that count, for code to be compiled.
 */
export async function interleaved(race: Race, rounds: number): Promise<Result[]> {
  const texts = new Texts()
  const { policies, prompts } = race
  const runs: Result[][][] = prompts.map(() => policies.map(() => []))
  for (let round = 0; round < rounds; round++) {
    const models = new Map<Policy, Model>()
    try {
      for (const policy of shuffled(policies, round, -1)) {
        const model = await load(race.directory, { ...race.common, ...policy.options })
        models.set(policy, model)
        if (model.plan.residency < 1) throw new Error(`"${policy.name}" does not fit into memory beside the others`)
      }
      for (const model of models.values()) await write(model, prompts[0], race, 'warming up')
      for (const [p, prompt] of prompts.entries()) {
        for (const policy of shuffled(policies, round, p)) {
          const completion = await write(models.get(policy)!, prompt, race, ownerOf(prompt, race, round))
          const result = { policy, prompt, completion }
          texts.check(result)
          runs[p][policies.indexOf(policy)].push(result)
        }
      }
    } finally {
      for (const model of models.values()) await model.close()
    }
  }
  return runs.flat().map((run) => {
    run.sort((a, b) => decodeSeconds(a.completion) - decodeSeconds(b.completion))
    return run[rounds >> 1]
  })
}

/** So that none always comes first, or always after the same other one; the same order in every run. */
function shuffled<T>(list: readonly T[], round: number, turn: number): T[] {
  const order = [...list]
  const random = new Noise(round)
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random.uniform(turn, last) * (last + 1))
    const moved = order[last]
    order[last] = order[other]
    order[other] = moved
  }
  return order
}

/**
 * One policy after the other, for models of which many do not fit into memory.
 * @param tell of every policy when it is through
 */
export async function oneByOne(race: Race, tell: (results: readonly Result[]) => void): Promise<Result[]> {
  const texts = new Texts()
  const results: Result[] = []
  for (const policy of race.policies) {
    const model = await load(race.directory, { ...race.common, ...policy.options })
    try {
      for (const prompt of race.prompts) {
        const result = { policy, prompt, completion: await write(model, prompt, race, ownerOf(prompt, race, 0)) }
        texts.check(result)
        results.push(result)
      }
    } finally {
      await model.close()
    }
    tell(results)
  }
  return results
}

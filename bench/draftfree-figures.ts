/** Figures of races between drafters. */
import { perPass, type Result, rate } from './races.ts'

/** What others measured, to stand beside what is measured here. */
export const NOTE = `Published, for larger models on GPUs: Lookahead (trie) 1.7-3.9x on public sets; ADED (trigrams) up to 2.5x; Token Recycling 2.73 tokens accepted per pass; on Spec-Bench, prompt lookup 1.75x and Lookahead Decoding (Jacobi) 1.64x. What differs here: a tiny target that writes simple text, whatever is asked; tables that begin empty; a CPU, where every guess costs compute that a GPU has to spare. These are not to be compared with those, only with each other.`

/** Tokens per pass by category, in the order of the results. */
export function perCategory(results: readonly Result[]): Map<string, number> {
  const categories = new Set(results.map(({ prompt }) => prompt.category))
  return new Map(
    [...categories].map((category) => [
      category,
      perPass(results.filter(({ prompt }) => prompt.category === category)),
    ]),
  )
}

/** Every category counts the same. */
export const meanOf = (per: ReadonlyMap<string, number>): number =>
  [...per.values()].reduce((sum, value) => sum + value, 0) / per.size

/**
 * @param results those of plain decoding among them; where it is there twice, the mean counts
 * @returns per result, how many times as fast as plain it was
 */
export function timesPlain(own: readonly Result[], results: readonly Result[]): number[] {
  return own.map((result) => {
    const plain = results.filter(({ policy, prompt }) => policy.kind === 'plain' && prompt === result.prompt)
    if (plain.length === 0) throw new Error('plain decoding is not among the policies')
    return (rate(result) * plain.length) / plain.reduce((sum, one) => sum + rate(one), 0)
  })
}

/** Tokens per pass of each list by block of prompts; the lists are of the same prompts. */
export function byBlock(
  lists: readonly (readonly Result[])[],
  block: number,
): { readonly first: number; readonly last: number; readonly figures: readonly number[] }[] {
  const [{ length }] = lists
  return Array.from({ length: Math.ceil(length / block) }, (_, i) => {
    const first = i * block
    const end = Math.min(first + block, length)
    return { first, last: end - 1, figures: lists.map((list) => perPass(list.slice(first, end))) }
  })
}

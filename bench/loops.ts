/** Outputs that go round in circles: a drafter guesses them easily, and nobody wants to read them. */

/** Tokens in a row that are looked for again. */
const GRAM = 8

/** Repeated share above which an output counts as a loop. */
export const LOOP_SHARE = 0.3

/** Share of an output's 8-grams that it had already. 0 when it is shorter than one. */
export function repeatedShare(tokens: readonly number[]): number {
  const count = tokens.length - GRAM + 1
  if (count < 1) return 0
  const seen = new Set<string>()
  for (let i = 0; i < count; i++) seen.add(tokens.slice(i, i + GRAM).join())
  return (count - seen.size) / count
}

export const isLoop = (tokens: readonly number[]): boolean => repeatedShare(tokens) > LOOP_SHARE

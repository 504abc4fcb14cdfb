/** The sum of all words, mod 2^32. */
export function sumWords(words: Int32Array): number {
  let sum = 0
  for (const word of words) sum = (sum + word) | 0
  return sum
}

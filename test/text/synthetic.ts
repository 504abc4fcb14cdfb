/** Tokenizers of any size, made up: byte-level byte pair encoding as large language models have it. */

/** GPT-2's alphabet for bytes. */
const ALPHABET: readonly string[] = (() => {
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    return String.fromCharCode(isPrintable ? byte : next++)
  })
})()

const LETTERS = 'etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLU0123456789 .,-'
const SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']

/**
 * @param vocabulary tokens in all, special ones included
 * @returns tokenizer.json; as large as published ones, which list every way to a token and are indented
 */
export function syntheticTokenizer(vocabulary: number): string {
  let state = 1
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const tokens = [...ALPHABET]
  const known = new Set(tokens)
  const letters = [...LETTERS].map((letter) => ALPHABET[letter.charCodeAt(0)])
  const words = [...letters]
  const merges: [string, string][] = []
  while (tokens.length < vocabulary - SPECIAL.length) {
    // Early ones more often, as in real text: then there are several ways to most tokens.
    const token = words[random(1 + random(words.length))] + words[random(1 + random(1 + random(words.length)))]
    if (token.length > 12 || known.has(token)) continue
    known.add(token)
    tokens.push(token)
    words.push(token)
    for (let cut = 1; cut < token.length; cut++) {
      const pair: [string, string] = [token.slice(0, cut), token.slice(cut)]
      if (known.has(pair[0]) && known.has(pair[1])) merges.push(pair)
    }
  }
  const json = {
    version: '1.0',
    added_tokens: SPECIAL.map((content, i) => ({ id: tokens.length + i, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((pair) => pair.join(' ')),
    },
  }
  return JSON.stringify(json, undefined, 2)
}

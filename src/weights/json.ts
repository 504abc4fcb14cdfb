/** JSON from files that may come from anywhere. */

export type JsonObject = Readonly<Record<string, unknown>>

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A value as it may stand in an error message: JSON, cut short. */
export function showValue(value: unknown): string {
  let text: string
  try {
    text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value))
  } catch {
    // A value from a hostile file can be nested too deeply to be written out.
    return Array.isArray(value) ? 'a list' : 'an object'
  }
  return text.length <= 120 ? text : `${text.slice(0, 117)}...`
}

/**
 * Parses a JSON object. Unlike `JSON.parse` it refuses an object that has the same key twice, which
 * would otherwise lose the first value silently.
 * @throws SyntaxError with a message that completes "the file ..."
 */
export function parseJsonObject(text: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new SyntaxError(`is not valid JSON (${cause instanceof Error ? cause.message : String(cause)})`, { cause })
  }
  if (!isJsonObject(value)) throw new SyntaxError(`should be a JSON object, but is ${showValue(value)}`)
  const twice = findDuplicateKey(text)
  if (twice !== undefined) throw new SyntaxError(`has the key ${showValue(twice)} twice in one object`)
  return value
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d

/** The first key that an object in `text`, which is valid JSON, has twice. */
function findDuplicateKey(text: string): string | undefined {
  // One entry per open bracket: the keys so far of an object, or undefined for an array.
  const open: (Set<string> | undefined)[] = []
  let keyNext = false
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case OPEN_OBJECT:
        open.push(new Set())
        keyNext = true
        break
      case OPEN_ARRAY:
        open.push(undefined)
        keyNext = false
        break
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop()
        keyNext = false
        break
      case COMMA:
        keyNext = open.at(-1) !== undefined
        break
      case QUOTE: {
        const end = endOfString(text, i)
        if (keyNext) {
          const keys = open.at(-1)!
          const raw = text.slice(i, end)
          const key: string = raw.includes('\\') ? JSON.parse(raw) : raw.slice(1, -1)
          if (keys.has(key)) return key
          keys.add(key)
          keyNext = false
        }
        i = end - 1
        break
      }
    }
  }
  return undefined
}

function endOfString(text: string, start: number): number {
  for (let i = start + 1; ; i++) {
    const code = text.charCodeAt(i)
    if (code === BACKSLASH) i++
    else if (code === QUOTE) return i + 1
  }
}

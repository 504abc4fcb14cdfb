/** The text files of a model directory. */
import { isFile, joinPath, readText, statPath } from '../runtime/files.ts'
import { Tokenizer } from '../text/tokenizer.ts'

const optional = (directory: string, name: string): string | undefined => {
  const path = joinPath(directory, name)
  return isFile(path) ? readText(path) : undefined
}

export const hasTokenizer = (directory: string): boolean => isFile(joinPath(directory, 'tokenizer.json'))

/** @throws CoppiceError CORRUPT_FILE when a file is not what it should be */
export function readTokenizer(directory: string): Tokenizer {
  return new Tokenizer({
    tokenizer: readText(joinPath(directory, 'tokenizer.json')),
    config: optional(directory, 'tokenizer_config.json'),
    chatTemplate: optional(directory, 'chat_template.jinja'),
    directory,
  })
}

export function readGenerationConfig(directory: string): string | undefined {
  return optional(directory, 'generation_config.json')
}

/** Heap that a tokenizer takes per byte of its tokenizer.json, as measured. */
const HEAP_PER_BYTE = 15

/** Estimated bytes of a tokenizer in memory. */
export function tokenizerBytes(directory: string): number {
  return HEAP_PER_BYTE * (statPath(joinPath(directory, 'tokenizer.json'))?.stamp.bytes ?? 0)
}

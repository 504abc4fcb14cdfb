/** What several sources have learnt, as the sections of a state file. */
import { brokenState, type StateSection } from '../state-file.ts'
import { savedRows } from './saved.ts'
import type { Source } from './source.ts'

/**
 * Gives every source its section; one without stays as it is.
 * @param file where they come from, for messages
 * @returns sections that no source took
 * @throws CoppiceError CORRUPT_FILE when a section makes no sense
 */
export function loadSections(
  sources: readonly Source[],
  sections: readonly StateSection[],
  file: string,
): readonly StateSection[] {
  return sections.filter((section) => {
    const source = sources.find(({ name, load }) => name === section.source && load !== undefined)
    if (source === undefined) return true
    try {
      source.load?.(section.bytes)
    } catch (cause) {
      throw brokenState(file, `section "${section.source}": ${(cause as Error).message}`, cause)
    }
    return false
  })
}

/** Sources that have taken less than all of their sections. */
export const takenInPart = (sources: readonly Source[], sections: readonly StateSection[]): Source[] =>
  sources.filter((source) =>
    sections.some((section) => section.source === source.name && (source.entries ?? 0) < savedRows(section.bytes)),
  )

/** Of all sources that have something to keep. */
export const saveSections = (sources: readonly Source[]): StateSection[] =>
  sources.flatMap((source) => (source.save === undefined ? [] : [{ source: source.name, bytes: source.save() }]))

/** Those that can learn from a text do so. */
export function warmSources(sources: readonly Source[], tokens: ArrayLike<number>): void {
  for (const source of sources) source.warm?.(tokens)
}

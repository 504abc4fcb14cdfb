/**
 * What drafting has learnt, of everything that one owner had written: what sources know, what their guesses turned
 * out to be worth, and when guessing pays. Owners share nothing of it, so that nobody's text can be proposed to
 * another, or shows in how fast another's is written.
 */
import { Calibration } from './calibration.ts'
import type { SourceName } from './drafter.ts'
import { MixingJudge } from './judge.ts'
import type { Pacing } from './pacing.ts'
import { loadSections, saveSections, warmSources } from './sources/sections.ts'
import type { Source } from './sources/source.ts'
import { CLASSES } from './sources/source.ts'
import type { StateSection } from './state-file.ts'

/** Observations of a class that are remembered: less than of a draft model, whose guesses depend less on the text. */
const REMEMBERED = 192
/** Share of what sources promise that is believed before there are counts. */
const TRUST = 0.6

export interface MemoryParts {
  readonly sources: readonly Source[]
  readonly pacing: Pacing
  /** Of passes that the draft model has no part in; absent where there are none, or nobody else to guess. */
  readonly without?: Pacing
  /** Guesses per node of the draft model; 0 without one. */
  readonly branching: number
  /** Bit of the draft model; 0 without one. */
  readonly model: number
}

export interface Learnt {
  readonly judge: MixingJudge
  /** Of the draft model's guesses. */
  readonly calibration: Calibration | undefined
}

export class DrafterMemory {
  readonly sources: readonly Source[]
  readonly pacing: Pacing
  readonly without: Pacing | undefined
  readonly #parts: MemoryParts
  /** By the way of sampling. */
  readonly #learnt = new Map<string, Learnt>()
  /** Of sources that are not among these: to be saved again as they came. */
  #others: readonly StateSection[] = []

  constructor(parts: MemoryParts) {
    this.#parts = parts
    this.sources = parts.sources
    this.pacing = parts.pacing
    this.without = parts.without
  }

  /** @param sampling name of the way of sampling: what guesses are worth depends on it */
  learnt(sampling: string): Learnt {
    let found = this.#learnt.get(sampling)
    if (found === undefined) {
      const { sources, branching, model } = this.#parts
      const calibration = model === 0 ? undefined : new Calibration(branching)
      const others = sources.map(
        () => new Calibration(CLASSES, { classes: CLASSES, remembered: REMEMBERED, trust: TRUST }),
      )
      found = { calibration, judge: new MixingJudge(calibration ? [calibration, ...others] : others, model) }
      this.#learnt.set(sampling, found)
    }
    return found
  }

  /** Bytes of each source's tables, and of sections that wait to be saved again. */
  get heldBytes(): { readonly source: SourceName; readonly bytes: number }[] {
    const held = this.sources.map(({ name, heldBytes }) => ({ source: name, bytes: heldBytes }))
    return [...held, ...this.#others.map(({ source, bytes }) => ({ source, bytes: bytes.length }))]
  }

  /**
   * What sources know from now on. Not part of it are what guesses are worth and when they pay: that is soon learnt
   * anew, and depends on the machine and the way of sampling.
   * @param file where it comes from, for messages
   * @throws CoppiceError CORRUPT_FILE when a section makes no sense; some sources may have theirs then
   */
  load(sections: readonly StateSection[], file: string): void {
    // Copies: what is kept must not keep the file's other bytes.
    this.#others = loadSections(this.sources, sections, file).map(({ source, bytes }) => ({
      source,
      bytes: bytes.slice(),
    }))
  }

  /** What outputs taught the sources. Of prompts there is only what outputs, and the target's second choices, repeat. */
  save(): StateSection[] {
    return [...saveSections(this.sources), ...this.#others]
  }

  /** It is forgotten: its memory is for others now. */
  release(): void {
    for (const source of this.sources) source.release?.()
  }

  /** Sources that can learn from a text that was not written here do so. */
  warm(tokens: ArrayLike<number>): void {
    warmSources(this.sources, tokens)
  }
}

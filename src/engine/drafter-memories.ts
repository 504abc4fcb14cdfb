/** What a model's drafters remember, by owner: kept in files, taught from texts, counted, forgotten. */
import { CoppiceError } from '../errors.ts'
import { absolutePath } from '../runtime/files.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { takenInPart } from '../speculate/sources/sections.ts'
import type { StateSection, TokenMeaning } from '../speculate/state-file.ts'
import { readStateFor, writeState } from './drafter-state.ts'
import { DEFAULT_OWNER, type Speculation } from './speculation.ts'
import type { DrafterMemoryUse } from './types.ts'

interface DrafterMemoriesParts {
  readonly speculation: Speculation
  /** Tokens that the model knows. */
  readonly vocabulary: number
  /** Asked for only when a state is read or written. */
  readonly meaning: () => TokenMeaning
}

export class DrafterMemories {
  readonly #speculation: Speculation
  readonly #vocabulary: number
  readonly #meaning: () => TokenMeaning
  /** What was loaded in part only, for want of room, and by whom. */
  #partial: { readonly path: string; readonly sources: string } | undefined

  constructor({ speculation, vocabulary, meaning }: DrafterMemoriesParts) {
    this.#speculation = speculation
    this.#vocabulary = vocabulary
    this.#meaning = meaning
  }

  /**
   * Gives the default owner what a file has.
   * @throws CoppiceError FILE_SYSTEM | CORRUPT_FILE | UNSUPPORTED_FORMAT | INCOMPATIBLE_STATE | INVALID_OPTION when what
   *   it has of other drafters leaves too little for those that are here
   */
  load(file: string): void {
    const { sections } = readStateFor(file, this.#meaning())
    const others = sections.filter(({ source }) => !this.#speculation.takes(source))
    const kept = others.reduce((sum, { bytes }) => sum + bytes.length, 0)
    this.#checkRoom(file, others, kept)
    const memory = this.#speculation.memoryOf(DEFAULT_OWNER, kept)
    memory.load(sections, file)
    const inPart = takenInPart(
      memory.sources,
      sections.filter(({ source }) => this.#speculation.takes(source)),
    )
    if (inPart.length > 0) {
      this.#partial = { path: absolutePath(file), sources: inPart.map(({ name }) => name).join(', ') }
    }
  }

  /** @throws CoppiceError INVALID_OPTION | FILE_SYSTEM */
  save(file: string, owner: string): void {
    this.#checkSources()
    if (typeof file !== 'string' || file === '') {
      throw new CoppiceError('INVALID_OPTION', `the state needs the name of a file, not ${JSON.stringify(file)}`)
    }
    if (absolutePath(file) === this.#partial?.path) {
      throw new CoppiceError(
        'INVALID_OPTION',
        `the drafter state ${file} has more than ${this.#partial.sources} could take within drafterMemory (${this.#speculation.drafterBytes} bytes), and saving there would lose the rest; load it with more drafterMemory or memory, or save to another file`,
      )
    }
    const known = this.#speculation.memories.get(checkOwner(owner))
    if (known === undefined && owner !== DEFAULT_OWNER) {
      throw new CoppiceError(
        'INVALID_OPTION',
        `nothing is remembered of the owner ${JSON.stringify(owner)}: there was no text yet, or it was forgotten for those that wrote since; save earlier`,
      )
    }
    const memory = known ?? this.#speculation.memoryOf(owner)
    writeState(file, { meaning: this.#meaning(), sections: memory.save() })
  }

  /** @param tokens ids of this model @throws CoppiceError INVALID_OPTION | INVALID_INPUT */
  warm(tokens: readonly number[], owner: string): void {
    this.#checkSources()
    const vocabulary = this.#vocabulary
    const wrong = tokens.findIndex((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary)
    if (wrong >= 0) {
      throw new CoppiceError(
        'INVALID_INPUT',
        `token ${wrong} of the text is ${tokens[wrong]}; token ids of this model are integers from 0 to ${vocabulary - 1}`,
      )
    }
    this.#speculation.memoryOf(checkOwner(owner)).warm(tokens)
  }

  uses(): DrafterMemoryUse[] {
    return [...this.#speculation.memories].flatMap(([owner, memory]) =>
      memory.heldBytes.map(({ source, bytes }) => ({ owner, source, bytes })),
    )
  }

  forget(owner: string): void {
    this.#speculation.forget(checkOwner(owner))
  }

  #checkRoom(file: string, others: readonly StateSection[], kept: number): void {
    const { drafterBytes } = this.#speculation
    const least = this.#speculation.drafterBytesFor(kept)
    if (kept === 0 || drafterBytes >= least) return
    throw new CoppiceError(
      'INVALID_OPTION',
      `the drafter state ${file} has ${formatBytes(kept)} of drafters that are not loaded (${others.map(({ source }) => source).join(', ')}), which are kept to be saved again; beside the others that takes drafterMemory of at least ${least} bytes (${formatBytes(least)}), and it is ${drafterBytes}: give that much, or name them in drafters`,
    )
  }

  #checkSources(): void {
    if (this.#speculation.remembers) return
    throw new CoppiceError(
      'INVALID_OPTION',
      'no drafter of this model learns from texts; load it with drafters such as "hybrid" or "trie"',
    )
  }
}

/** Owners may come from code without types. @throws CoppiceError INVALID_OPTION */
export function checkOwner(owner: unknown): string {
  if (typeof owner === 'string') return owner
  throw new CoppiceError('INVALID_OPTION', `owner must be a text, not ${JSON.stringify(owner)}`)
}

/** Files that fail as the words of a shared buffer say, for loaders on any thread. */
import { CoppiceError } from '../../src/errors.ts'
import type { OpenFile } from '../../src/memory/packed-reader.ts'
import { ReadableFile } from '../../src/runtime/files.ts'

export const FAULTS = ['none', 'EIO', 'EINVAL for direct', 'hang', 'EIO beside a hang', 'slow'] as const
export type FaultKind = (typeof FAULTS)[number]

const SLOW_MS = 20
const HEADER_WORDS = 6
const LOG_WORDS = 1000

/**
 * Words: kind of fault, the file it concerns (-1: all), from which byte on, reads under way, of these reads that
 * hang, reads begun; then the files read.
 */
export class FaultSwitch {
  readonly words: Int32Array

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 * (HEADER_WORDS + LOG_WORDS))) {
    this.words = new Int32Array(buffer)
  }

  get buffer(): SharedArrayBuffer {
    return this.words.buffer as SharedArrayBuffer
  }

  /** From now on; reads that hang go on. */
  set(kind: FaultKind, file = -1, from = 0): void {
    Atomics.store(this.words, 1, file)
    Atomics.store(this.words, 2, from)
    Atomics.store(this.words, 0, FAULTS.indexOf(kind))
    Atomics.notify(this.words, 0)
  }

  get underWay(): number {
    return Atomics.load(this.words, 3)
  }

  get hanging(): number {
    return Atomics.load(this.words, 4)
  }

  /** The files that were read, by the numbers in their names, in order. */
  get reads(): number[] {
    return [...this.words.subarray(HEADER_WORDS, HEADER_WORDS + Atomics.load(this.words, 5))]
  }

  /** Opens files whose names end with a number, to be read as the switch says. */
  readonly open: OpenFile = (path, mode) => {
    const file = new ReadableFile(path)
    const number = Number(/(\d+)$/.exec(path)![1])
    return {
      stamp: () => file.stamp(),
      close: () => file.close(),
      read: (target, position) => {
        Atomics.store(this.words, HEADER_WORDS + Atomics.add(this.words, 5, 1), number)
        Atomics.add(this.words, 3, 1)
        try {
          this.#fail(number, position, mode, path)
          return file.read(target, position)
        } finally {
          Atomics.sub(this.words, 3, 1)
        }
      },
    }
  }

  #fail(number: number, position: number, mode: string, path: string): void {
    const [kind, file, from] = this.words
    if (file !== -1 && file !== number) return
    if (FAULTS[kind] === 'EIO beside a hang' && position < from) {
      while (this.hanging === 0) Atomics.wait(this.words, 4, 0, SLOW_MS)
      throw failure('EIO', path)
    }
    if (position < from) return
    switch (FAULTS[kind]) {
      case 'EIO':
        throw failure('EIO', path)
      case 'EINVAL for direct':
        if (mode === 'direct') throw failure('EINVAL', path)
        return
      case 'hang':
      case 'EIO beside a hang':
        Atomics.add(this.words, 4, 1)
        Atomics.wait(this.words, 0, kind)
        Atomics.sub(this.words, 4, 1)
        return
      case 'slow':
        // Nothing ever changes this word.
        Atomics.wait(this.words, this.words.length - 1, 0, SLOW_MS)
        return
    }
  }
}

function failure(code: string, path: string): CoppiceError {
  const cause = Object.assign(new Error(`${code}: by order of the test`), { code })
  return new CoppiceError('FILE_SYSTEM', `cannot read ${path}: the system answered ${code}`, { cause })
}

/** What benchmarks share: options, the machine, timing, tables and JSON lines. */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { Bench as Timer } from 'tinybench'
import { chooseKernels } from '../src/engine/kernel-choice.ts'
import { cores, runtimeName, runtimeVersion } from '../src/runtime/platform.ts'

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** The text after a command-line flag. */
export function text(flag: string, otherwise: string): string {
  const at = process.argv.indexOf(flag)
  if (at < 0) return otherwise
  const value = process.argv[at + 1]
  if (value === undefined) throw new Error(`${flag} needs a value, such as ${otherwise}`)
  return value
}

/** The number after a command-line flag. */
export function number(flag: string, otherwise: number): number {
  const value = Number(text(flag, String(otherwise)))
  if (!Number.isFinite(value)) throw new Error(`${flag} needs a number, such as ${otherwise}`)
  return value
}

/** The integers after a command-line flag, with commas between them. */
export function numbers(flag: string, otherwise: readonly number[], least = 1): number[] {
  const values = text(flag, otherwise.join()).split(',').map(Number)
  if (values.some((value) => !Number.isInteger(value) || value < least)) {
    throw new Error(`${flag} needs integers from ${least} on with commas between them, such as ${otherwise}`)
  }
  return values
}

/** Some of the known words after a command-line flag, with commas between them. */
export function words<Word extends string>(flag: string, known: readonly Word[], otherwise: readonly Word[]): Word[] {
  return text(flag, otherwise.join())
    .split(',')
    .map((word) => {
      const found = known.find((name) => name === word)
      if (found === undefined) throw new Error(`${flag} knows ${known.join(', ')}, not "${word}"`)
      return found
    })
}

/** One thread, and as many as there are cores. */
export const defaultThreads = (): number[] => [...new Set([1, Math.min(cores(), 8)])]

/** Instructions that the engines turn the kernels' SIMD into, where the processor has them. */
const RELEVANT_FLAGS = ['sse4_1', 'avx', 'avx2', 'fma', 'f16c', 'avx_vnni', 'avx512f', 'avx512bw', 'avx512_vnni']

/** Where a figure comes from: it means little without. */
export interface Machine {
  readonly processor: string
  /** Of RELEVANT_FLAGS; undefined where the system does not tell. */
  readonly flags: readonly string[] | undefined
  readonly cores: number
  readonly runtime: string
  readonly kernels: string
}

export function describeMachine(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'unknown processor',
    flags: processorFlags(),
    cores: cores(),
    runtime: `${runtimeName()} ${runtimeVersion()}`,
    kernels: chooseKernels(undefined).variant,
  }
}

function processorFlags(): string[] | undefined {
  let information: string
  try {
    information = readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    return undefined
  }
  const flags = information.match(/^(?:flags|Features)\s*:(.*)$/m)?.[1].split(' ')
  return flags === undefined ? undefined : RELEVANT_FLAGS.filter((flag) => flags.includes(flag))
}

/** Something to be timed beside others. */
export interface Contestant {
  readonly name: string
  readonly run: () => void | Promise<void>
  /** For what takes long and need not be known well: called twice, and the second call counts. */
  readonly once?: boolean
}

/**
 * Times the contestants one after the other, in several rounds, so that a disturbance of the machine does not hit
 * one of them alone.
 * @param time of one round of one contestant, in ms; it has one call at the least
 * @returns per contestant the milliseconds of its fastest call. Whatever else runs on the machine only adds to a time,
 *   and more to some contestants than to others: of threads that wait for each other, all wait for the one held up.
 */
export async function race(contestants: readonly Contestant[], time: number, rounds = 3): Promise<Map<string, number>> {
  const best = new Map<string, number>()
  for (let round = 0; round < rounds; round++) {
    for (const { name, run, once = false } of contestants) {
      if (once && round > 0) continue
      const length = { time: once ? 0 : time, iterations: 1 }
      const timer = new Timer({ ...length, warmup: round === 0, warmupTime: 0, warmupIterations: 1 })
      timer.add(name, run)
      await timer.run()
      const { result } = timer.tasks[0]
      if (result.state !== 'completed') throw new Error(`${name} ended as "${result.state}"`, { cause: result })
      best.set(name, Math.min(best.get(name) ?? Number.POSITIVE_INFINITY, result.latency.min))
    }
  }
  return best
}

/** A column of a table: its head, which is as wide as its widest value. */
export type Columns = readonly string[]

/** Prints a table as it grows, and at its end the same as JSON lines, which --json FILE also writes to a file. */
export class Report {
  readonly #bench: string
  readonly #machine = describeMachine()
  readonly #lines: string[] = []
  #columns: Columns = []

  constructor(bench: string) {
    this.#bench = bench
    const { processor, flags, cores, runtime, kernels } = this.#machine
    const instructions = flags === undefined ? 'instructions unknown' : flags.join(' ')
    console.log(`${processor} (${instructions}), ${cores} cores\n${runtime}, kernels ${kernels}`)
  }

  note(line: string): void {
    console.log(line)
  }

  /** Begins a table. */
  table(title: string, columns: Columns): void {
    this.#columns = columns
    console.log(`\n${title}\n${columns.join('  ')}`)
  }

  /** @param values one text per column. @param figures what the JSON line says */
  row(values: readonly string[], figures: object): void {
    console.log(values.map((value, i) => value.padStart(this.#columns[i].length)).join('  '))
    this.line(figures)
  }

  /** A JSON line that belongs to no row. */
  line(figures: object): void {
    this.#lines.push(JSON.stringify({ bench: this.#bench, ...figures, ...this.#machine }))
  }

  end(): void {
    console.log(`\n${this.#lines.join('\n')}`)
    const file = text('--json', '')
    if (file !== '') writeFileSync(file, `${this.#lines.join('\n')}\n`)
  }
}

/** 1.23x, or nothing when it was not measured. */
export const ratio = (value: number | undefined, digits = 2): string =>
  value === undefined ? '-' : `${value.toFixed(digits)}x`

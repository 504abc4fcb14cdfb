/**
 * Turns a Hugging Face checkpoint into a packed directory. Row blocks stream from one to the other,
 * so memory does not grow with the model; a crash at any moment leaves either no manifest or a
 * complete model, and the next attempt goes on where the last one ended.
 */
import { CoppiceError } from '../errors.ts'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { absolutePath, freeDiskBytes, isFile, joinPath, readBytes, Sha256 } from '../runtime/files.ts'
import { KINDS, type Kind } from '../tensor/layout.ts'
import { showValue } from './json.ts'
import { FORMAT_VERSION, MANIFEST_NAME, type Manifest } from './manifest.ts'
import { COPIED_NAMES, formatManifest } from './manifest-json.ts'
import { LOCK_NAME, PackJournal } from './pack-journal.ts'
import { type PackPlan, planPacking } from './pack-plan.ts'
import type { PackedModel } from './packed.ts'
import { EDGES_NAME, quantisationOf } from './packed-layout.ts'
import { type FilePlan, PackedWriter, type WrittenFile } from './packed-writer.ts'
import { sourceFingerprint, sourceName } from './source.ts'
import { type Task, Team, usefulHelpers } from './team.ts'
import { parameterCount } from './tensor-names.ts'
import { differingRow } from './twins.ts'

export interface PackProgress {
  readonly phase: 'pack'
  /** Name of the file being written; `coppice.lock` while another process packs into the same directory. */
  readonly file: string
  /** Bytes of all files, written and to be written. */
  readonly done: number
  readonly total: number
}

export interface PackOptions {
  /** Kind of the layers' matrices. Default 'auto': f32 below 16 M parameters, q8 below 500 M, q4 above. */
  readonly weights?: 'auto' | Kind
  readonly onProgress?: (progress: PackProgress) => void
  /** Asked about once per MiB; true ends the work with ABORTED, to be resumed by packing again. */
  readonly isAborted?: () => boolean
  /** Threads beside this one; for tests. Default: what the machine and the model are good for. */
  readonly helpers?: number
  /** Free bytes on the disk of a directory; for tests. */
  readonly freeBytes?: (directory: string) => number
}

/** @throws CoppiceError INVALID_OPTION */
export function checkWeights(weights: 'auto' | Kind): void {
  if (weights !== 'auto' && !KINDS.includes(weights)) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `weights should be auto or one of ${KINDS.join(', ')}, not ${showValue(weights)}`,
    )
  }
}

/**
 * Packs the checkpoint in `source` into `output`, which must be new, empty, or the unfinished output of
 * an earlier attempt. The same source and options give the same bytes.
 * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | UNSUPPORTED_FORMAT | UNSUPPORTED_ARCHITECTURE when the source
 *   cannot be packed, INVALID_OPTION when the output directory holds something else, also a model that another
 *   process has just packed into it, FILE_SYSTEM when the disk is too small or fails, ABORTED
 */
export function packModel(source: string, output: string, options: PackOptions = {}): PackedModel {
  checkWeights(options.weights ?? 'auto')
  const plan = planPacking(source, options.weights ?? 'auto')
  try {
    return new Packing(source, absolutePath(output), plan, options).run()
  } finally {
    plan.checkpoint.close()
  }
}

class Packing {
  readonly #source: string
  readonly #output: string
  readonly #plan: PackPlan
  readonly #options: PackOptions
  readonly #total: number
  #journal: PackJournal | undefined
  #team: Team | undefined
  #done = 0

  constructor(source: string, output: string, plan: PackPlan, options: PackOptions) {
    this.#source = source
    this.#output = output
    this.#plan = plan
    this.#options = options
    this.#total = bytesOf(plan.files)
  }

  run(): PackedModel {
    const fingerprint = sourceFingerprint(this.#source)
    const quantisation = quantisationOf(this.#plan.kind)
    this.#compareTwins()
    const key = { source: fingerprint, quantisation }
    const journal = new PackJournal(this.#output, key, () => this.#checkpointOf(LOCK_NAME, 0))
    this.#journal = journal
    try {
      return this.#pack(journal, fingerprint)
    } finally {
      journal.release()
    }
  }

  #pack(journal: PackJournal, fingerprint: string): PackedModel {
    const { config, kind, files } = this.#plan
    const finished = this.#finishedBefore(journal)
    requireDiskSpace(this.#output, this.#total - this.#done, this.#options.freeBytes ?? freeDiskBytes)
    this.#writeOthers(journal, finished)
    const written = files.map(({ name }) => finished.get(name)!)
    const copies = this.#copyFiles()
    journal.removeOthers(new Set([...files, ...copies].map(({ name }) => name)))
    if (sourceFingerprint(this.#source) !== fingerprint) {
      throw new CoppiceError('CORRUPT_FILE', `${this.#source} was changed while it was being packed; pack it again`)
    }
    const manifest: Manifest = {
      format: 'coppice',
      version: FORMAT_VERSION,
      config,
      quantisation: quantisationOf(kind),
      parameters: parameterCount(config),
      source: { name: sourceName(this.#source), revision: revisionOf(written) },
      edges: written[written.length - 1].file,
      layers: written.slice(0, -1).map(({ file }) => file),
      copies,
    }
    journal.requireHeld()
    writeFileAtomically(joinPath(this.#output, MANIFEST_NAME), formatManifest(manifest))
    journal.remove()
    return { directory: this.#output, manifest }
  }

  /** Files of an earlier attempt that are of use, by name. */
  #finishedBefore(journal: PackJournal): Map<string, WrittenFile> {
    const kept = new Map<string, WrittenFile>()
    for (const { name, layout } of this.#plan.files) {
      this.#checkpointOf(name, 0)
      const finished = journal.finished(name, layout, () => this.#checkpointOf(name, 0))
      if (finished === undefined) continue
      kept.set(name, finished)
      this.#checkpointOf(name, layout.bytes)
    }
    return kept
  }

  /** Writes the files that are missing in `finished`, on several threads where that pays, and adds them. */
  #writeOthers(journal: PackJournal, finished: Map<string, WrittenFile>): void {
    const { checkpoint, files, kind } = this.#plan
    const missing = files.filter(({ name }) => !finished.has(name))
    const writer = new PackedWriter(checkpoint, files)
    const helpers = this.#options.helpers ?? usefulHelpers(missing.length, bytesOf(missing), writer.bufferBytes)
    // The largest file is mostly that of the edges: begun last, it would be waited for by all threads but one.
    if (helpers > 0) missing.sort((a, b) => b.layout.bytes - a.layout.bytes)
    const task: Task = {
      what: 'pack',
      source: absolutePath(this.#source),
      output: this.#output,
      kind,
      files: missing.map((file) => files.indexOf(file)),
    }
    this.#team = new Team(task, helpers, (_, result) => {
      const written = result as WrittenFile
      journal.add(written)
      finished.set(written.file.name, written)
    })
    const write = (file: FilePlan): WrittenFile =>
      writer.write(joinPath(this.#output, file.name), file, (bytes) => this.#checkpointOf(file.name, bytes))
    this.#team.run(
      (file) => write(files[file]),
      () => this.#checkpointOf((missing.find(({ name }) => !finished.has(name)) ?? missing[0]).name, 0),
    )
    this.#team = undefined
  }

  /** Counts bytes as done and gives up if that was asked for. */
  #checkpointOf(file: string, bytes: number): void {
    this.#done += bytes + (this.#team?.poll() ?? 0)
    this.#journal?.touch()
    if (this.#options.isAborted?.()) {
      throw new CoppiceError('ABORTED', `packing ${this.#source} was aborted; packing it again goes on from here`)
    }
    this.#options.onProgress?.({ phase: 'pack', file, done: this.#done, total: this.#total })
  }

  #compareTwins(): void {
    const { twins } = this.#plan.names
    const row = twins && differingRow(this.#plan.checkpoint, twins, () => this.#checkpointOf(EDGES_NAME, 0))
    if (row === undefined) return
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${this.#source}: config.json has tie_word_embeddings true, but ${twins!.join(' and ')} differ, first in row ${row}; if the checkpoint is right, set it to false`,
    )
  }

  #copyFiles(): Manifest['copies'] {
    const copies: { name: string; bytes: number; sha256: string }[] = []
    for (const name of COPIED_NAMES) {
      const from = joinPath(this.#source, name)
      if (!isFile(from)) continue
      const bytes = readBytes(from)
      writeFileAtomically(joinPath(this.#output, name), bytes)
      copies.push({ name, bytes: bytes.length, sha256: new Sha256().update(bytes).hex() })
    }
    return copies
  }
}

const bytesOf = (files: readonly FilePlan[]): number => files.reduce((sum, { layout }) => sum + layout.bytes, 0)

/** Identifies the weights, whatever kind they were packed in and wherever the checkpoint lay. */
function revisionOf(files: readonly WrittenFile[]): string {
  const hash = new Sha256()
  for (const { sourceDigest } of files) hash.update(sourceDigest)
  return `sha256:${hash.hex()}`
}

function requireDiskSpace(directory: string, needed: number, freeBytes: (directory: string) => number): void {
  const free = freeBytes(directory)
  if (free >= needed) return
  throw new CoppiceError(
    'FILE_SYSTEM',
    `packing into ${directory} needs ${needed} bytes, but only ${free} are free on its disk; free ${needed - free} more or choose another directory`,
  )
}

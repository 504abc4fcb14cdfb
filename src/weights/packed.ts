/** Packed directories that are there: opening one, and checking every byte of one. */
import { CoppiceError } from '../errors.ts'
import { absolutePath, joinPath, ReadableFile, readText, Sha256, statPath } from '../runtime/files.ts'
import { checksum } from '../tensor/checksum.ts'
import { ChecksumBuffer } from '../tensor/packer.ts'
import { ChunkSums } from './chunk-sums.ts'
import { MANIFEST_NAME, type Manifest, type PackedFile, type Segment } from './manifest.ts'
import { parseManifest } from './manifest-json.ts'
import { HEADER_LIMIT_BYTES } from './safetensors-header.ts'
import { type Task, Team, usefulHelpers } from './team.ts'

/** A packed directory that was found whole. */
export interface PackedModel {
  readonly directory: string
  readonly manifest: Manifest
}

/** Bytes that are read at a time. */
const BLOCK_BYTES = 1 << 20
/** A manifest has some bytes per layer and per MiB of weights; a larger file is something else. */
const MANIFEST_LIMIT_BYTES = 1 << 28

/**
 * Opens a packed directory: reads its manifest and checks that every file is there, has its exact
 * size and an undamaged header. The weights themselves are checked when they are first read.
 * @throws CoppiceError MODEL_NOT_FOUND when it has no manifest, CORRUPT_FILE naming the first file
 *   that is not as it was packed, UNSUPPORTED_FORMAT when another version packed it
 */
export function openPacked(directory: string): PackedModel {
  const manifest = readManifest(directory)
  for (const file of [...manifest.layers, manifest.edges]) {
    const problem = sizeProblem(directory, file) ?? headerProblem(directory, file)
    if (problem !== undefined) throw damaged(directory, file.name, problem)
  }
  for (const copy of manifest.copies) {
    const problem = sizeProblem(directory, copy)
    if (problem !== undefined) throw damaged(directory, copy.name, problem)
  }
  return { directory, manifest }
}

/** @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | UNSUPPORTED_FORMAT */
function readManifest(directory: string): Manifest {
  const path = joinPath(directory, MANIFEST_NAME)
  const found = statPath(path)
  if (found === undefined) {
    throw new CoppiceError('MODEL_NOT_FOUND', `${directory} is not a packed model: it has no ${MANIFEST_NAME}`)
  }
  if (found.kind !== 'file' || found.stamp.bytes > MANIFEST_LIMIT_BYTES) {
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${path} should be a file of at most ${MANIFEST_LIMIT_BYTES} bytes, but is a ${found.kind} of ${found.stamp.bytes}`,
    )
  }
  return parseManifest(readText(path), path)
}

interface SizedFile {
  readonly name: string
  readonly bytes: number
}

function sizeProblem(directory: string, { name, bytes }: SizedFile): string | undefined {
  const found = statPath(joinPath(directory, name))
  if (found === undefined) return `is missing; ${bytes} bytes were expected`
  if (found.kind !== 'file') return `should be a file of ${bytes} bytes, but is a ${found.kind}`
  return found.stamp.bytes === bytes ? undefined : `should have ${bytes} bytes, but has ${found.stamp.bytes}`
}

function headerProblem(directory: string, { name, dataOffset, headerChecksum }: PackedFile): string | undefined {
  if (dataOffset > HEADER_LIMIT_BYTES) return `is said to have a header of ${dataOffset} bytes`
  const header = new Uint8Array(dataOffset)
  const file = new ReadableFile(joinPath(directory, name))
  try {
    if (file.read(header, 0) < dataOffset) return `ended within its header of ${dataOffset} bytes`
  } finally {
    file.close()
  }
  const sum = checksum(header)
  return sum === headerChecksum ? undefined : `has a damaged header: checksum ${headerChecksum} expected, ${sum} found`
}

const damaged = (directory: string, name: string, problem: string): CoppiceError =>
  new CoppiceError('CORRUPT_FILE', `${joinPath(directory, name)} ${problem}; pack the model again`)

export interface VerifyProgress {
  readonly phase: 'verify'
  /** Name of the file being read. */
  readonly file: string
  /** Bytes of all files, read and to be read. */
  readonly done: number
  readonly total: number
}

export interface VerifyOptions {
  readonly onProgress?: (progress: VerifyProgress) => void
  /** Asked about once per MiB; true ends the work with ABORTED. */
  readonly isAborted?: () => boolean
  /** Threads beside this one; for tests. Default: what the machine and the model are good for. */
  readonly helpers?: number
}

export interface VerifyReport {
  readonly manifest: Manifest
  /** Files looked at. */
  readonly files: number
  /** Bytes that they should have. */
  readonly bytes: number
  /** Every file that is not as it was packed. */
  readonly problems: readonly { readonly file: string; readonly problem: string }[]
}

/**
 * Reads every file of a packed directory and compares all its checksums.
 * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | UNSUPPORTED_FORMAT when the manifest cannot be used,
 *   ABORTED, FILE_SYSTEM
 */
export function verifyPacked(directory: string, options: VerifyOptions = {}): VerifyReport {
  const manifest = readManifest(directory)
  const files = filesOf(manifest)
  const total = files.reduce((sum, file) => sum + file.bytes, 0)
  const found = new Map<number, string | undefined>()
  const order = files.map((_, i) => i)
  const helpers = options.helpers ?? usefulHelpers(files.length, total, largestChunk(manifest) + BLOCK_BYTES)
  if (helpers > 0) order.sort((a, b) => files[b].bytes - files[a].bytes)
  const task: Task = { what: 'verify', directory: absolutePath(directory), files: order }
  const team = new Team(task, helpers, (file, problem) => found.set(file, problem as string | undefined))
  let done = 0
  const checkpoint = (file: number, bytes: number): void => {
    done += bytes + team.poll()
    if (options.isAborted?.()) throw new CoppiceError('ABORTED', `checking ${directory} was aborted`)
    options.onProgress?.({ phase: 'verify', file: files[file].name, done, total })
  }
  const check = checkerOf(directory, manifest)
  team.run(
    (file) => check(file, (bytes) => checkpoint(file, bytes)),
    () => checkpoint(order.find((file) => !found.has(file)) ?? 0, 0),
  )
  const problems = files.flatMap(({ name }, i) => {
    const problem = found.get(i)
    return problem === undefined ? [] : [{ file: name, problem }]
  })
  return { manifest, files: files.length, bytes: total, problems }
}

type AnyFile = PackedFile | Manifest['copies'][number]

const filesOf = ({ layers, edges, copies }: Manifest): readonly AnyFile[] => [...layers, edges, ...copies]

const largestChunk = ({ layers, edges }: Manifest): number =>
  Math.max(...[...layers, edges].map(({ segments }) => ChunkSums.bufferBytes(segments)))

/** Checks one file after the other, by their numbers: layers, edges, then copies. */
export function checkerOf(directory: string, manifest = readManifest(directory)) {
  const files = filesOf(manifest)
  const buffer = new ChecksumBuffer(largestChunk(manifest))
  return (file: number, onBytes: (bytes: number) => void): string | undefined => {
    const problem = sizeProblem(directory, files[file])
    if (problem === undefined) return contentProblem(directory, files[file], buffer, onBytes)
    onBytes(files[file].bytes)
    return problem
  }
}

function contentProblem(
  directory: string,
  file: AnyFile,
  buffer: ChecksumBuffer,
  onBytes: (bytes: number) => void,
): string | undefined {
  const segments: readonly Segment[] = 'segments' in file ? file.segments : []
  const dataOffset = 'dataOffset' in file ? file.dataOffset : file.bytes
  const sums = new ChunkSums(segments, buffer)
  const sha256 = hashFile(joinPath(directory, file.name), (block, position) => {
    const from = Math.min(Math.max(dataOffset - position, 0), block.length)
    sums.feed(block.subarray(from))
    onBytes(block.length)
  })
  const wrong: string[] = []
  const header = 'headerChecksum' in file ? headerProblem(directory, file) : undefined
  if (header !== undefined) wrong.push(header)
  segments.forEach(({ name, offset, chunkBytes, bytes, checksums }, i) => {
    checksums.forEach((expected, chunk) => {
      if (sums.sums[i][chunk] === expected) return
      const first = dataOffset + offset + chunk * chunkBytes
      const end = dataOffset + offset + Math.min((chunk + 1) * chunkBytes, bytes)
      wrong.push(`has damage between bytes ${first} and ${end} (${name})`)
    })
  })
  if (wrong.length > 3) wrong.splice(3, wrong.length, `and ${wrong.length - 3} more`)
  if (sha256 !== file.sha256) wrong.push(`has the SHA-256 ${sha256}, but ${file.sha256} was packed`)
  return wrong.length === 0 ? undefined : wrong.join('; ')
}

/**
 * SHA-256 of a file in hexadecimal.
 * @param onBlock called with each block and its position, before the block is used again
 * @throws CoppiceError MODEL_NOT_FOUND | FILE_SYSTEM
 */
export function hashFile(path: string, onBlock: (block: Uint8Array, position: number) => void = () => {}): string {
  const hash = new Sha256()
  const buffer = new Uint8Array(BLOCK_BYTES)
  const file = new ReadableFile(path)
  try {
    for (let position = 0; ; ) {
      const block = buffer.subarray(0, file.read(buffer, position))
      if (block.length === 0) return hash.hex()
      hash.update(block)
      onBlock(block, position)
      position += block.length
    }
  } finally {
    file.close()
  }
}

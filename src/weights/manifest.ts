/**
 * The packed directory's `coppice.json`: where every tensor lies, and how to tell that its bytes are
 * the ones that were written.
 */
import type { Kind } from '../tensor/layout.ts'
import type { ModelConfig } from './model-config.ts'

export const MANIFEST_NAME = 'coppice.json'
export const FORMAT_VERSION = 2

/** A matrix W[rows x columns] in the tiled layout of `tensor/layout.ts`, or a vector of f32. */
export interface PackedTensor {
  readonly name: string
  readonly kind: Kind | 'vector'
  /** Outputs N of a matrix (each fused part padded to 8, see `parts`); elements of a vector. */
  readonly rows: number
  /** Inner dimension K as in the checkpoint; 1 for a vector. */
  readonly columns: number
  /** Logical rows of the parts fused in this matrix, each padded to 8 rows in it (q, k, v; gate, up). */
  readonly parts: readonly number[]
  /** Bytes from the start of the file's data. A multiple of 64. */
  readonly offset: number
  /** Stored bytes, rounded up to 64. */
  readonly bytes: number
}

/** A run of the file's data with one checksum per chunk. */
export interface Segment {
  readonly name: string
  /** Bytes from the start of the file's data. */
  readonly offset: number
  readonly bytes: number
  /** Every chunk but the last has this many bytes. */
  readonly chunkBytes: number
  /** One u32 per chunk (`tensor/checksum.ts`). */
  readonly checksums: readonly number[]
}

export interface PackedFile {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
  /** Where data starts in the file: a multiple of 4096, after the safetensors header. */
  readonly dataOffset: number
  /** Checksum of the bytes before `dataOffset`. */
  readonly headerChecksum: number
  readonly tensors: readonly PackedTensor[]
  /**
   * A layer file has one segment per group of tensors that is loaded as a whole (attention; gate and up; down), in
   * chunks of 1 MiB; together they span all data. The edges have one per matrix, in chunks of whole groups of 8
   * rows, so that a row range can be read and checked alone.
   */
  readonly segments: readonly Segment[]
}

export interface Quantisation {
  readonly layers: Kind
  /** Embedding and output head. */
  readonly edges: Kind
}

export interface Manifest {
  readonly format: 'coppice'
  readonly version: number
  readonly config: ModelConfig
  readonly quantisation: Quantisation
  readonly parameters: number
  readonly source: { readonly name: string; readonly revision: string }
  readonly edges: PackedFile
  readonly layers: readonly PackedFile[]
  /** Files copied as found: tokenizer, chat template, generation defaults. */
  readonly copies: readonly { readonly name: string; readonly bytes: number; readonly sha256: string }[]
}

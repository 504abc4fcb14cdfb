// What the module exports: one entry for jobs, and the few functions that are called directly.
import { attention } from './attention'
import { read } from './bandwidth'
import { gather, rmsNorm, rotateAndStore, siluGate } from './elementwise'
import { gemm } from './gemm'
import { quantise } from './quantise'
import {
  int,
  OP_ATTENTION,
  OP_GATHER,
  OP_GEMM,
  OP_QUANTISE,
  OP_READ,
  OP_RMS_NORM,
  OP_ROTATE_AND_STORE,
  OP_SILU_GATE,
} from './record'

export { byteNibbles, byteSigns, halfBits, halfRebase, shortNibbles } from './constants'
export { outliers } from './noise'
export { sumExp64 } from './exp64'
export { checksum, coarseSumExp, sumExp, topK } from './reduce'

// Executes share `part` of `parts` of the job whose record lies at `record`.
export function run(record: usize, part: i32, parts: i32): void {
  switch (int(record, 0)) {
    case OP_GEMM:
      return gemm(record, part, parts)
    case OP_QUANTISE:
      return quantise(record, part, parts)
    case OP_RMS_NORM:
      return rmsNorm(record, part, parts)
    case OP_ROTATE_AND_STORE:
      return rotateAndStore(record, part, parts)
    case OP_ATTENTION:
      return attention(record, part, parts)
    case OP_SILU_GATE:
      return siluGate(record, part, parts)
    case OP_GATHER:
      return gather(record, part, parts)
    case OP_READ:
      return read(record, part, parts)
    default:
      unreachable()
  }
}

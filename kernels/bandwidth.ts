// The limit that the other kernels are measured against: reads memory, adds up its words, and does nothing else.
import { int, pointer, READ_BYTES, READ_SOURCE, READ_SUMS, shareBegin } from './record'

// Bytes that one turn of the loop takes from eight streams; `bytes` of a record is a multiple.
const TURN: usize = 256

// The sum of a share's i32 words (mod 2^32) goes to a cache line of its own: sums + part * 64.
export function read(record: usize, part: i32, parts: i32): void {
  const turns = int(record, READ_BYTES) >>> 8
  const begin = shareBegin(turns, part, parts)
  const stream = <usize>(shareBegin(turns, part + 1, parts) - begin) * (TURN / 8)
  let p0 = pointer(record, READ_SOURCE) + <usize>begin * TURN
  const end = p0 + stream
  let p1 = p0 + stream
  let p2 = p1 + stream
  let p3 = p2 + stream
  let p4 = p3 + stream
  let p5 = p4 + stream
  let p6 = p5 + stream
  let p7 = p6 + stream
  let a0 = i32x4.splat(0)
  let a1 = a0
  let a2 = a0
  let a3 = a0
  let a4 = a0
  let a5 = a0
  let a6 = a0
  let a7 = a0
  while (p0 < end) {
    a0 = i32x4.add(a0, i32x4.add(v128.load(p0), v128.load(p0, 16)))
    a1 = i32x4.add(a1, i32x4.add(v128.load(p1), v128.load(p1, 16)))
    a2 = i32x4.add(a2, i32x4.add(v128.load(p2), v128.load(p2, 16)))
    a3 = i32x4.add(a3, i32x4.add(v128.load(p3), v128.load(p3, 16)))
    a4 = i32x4.add(a4, i32x4.add(v128.load(p4), v128.load(p4, 16)))
    a5 = i32x4.add(a5, i32x4.add(v128.load(p5), v128.load(p5, 16)))
    a6 = i32x4.add(a6, i32x4.add(v128.load(p6), v128.load(p6, 16)))
    a7 = i32x4.add(a7, i32x4.add(v128.load(p7), v128.load(p7, 16)))
    p0 += 32
    p1 += 32
    p2 += 32
    p3 += 32
    p4 += 32
    p5 += 32
    p6 += 32
    p7 += 32
  }
  a0 = i32x4.add(i32x4.add(a0, a1), i32x4.add(a2, a3))
  a4 = i32x4.add(i32x4.add(a4, a5), i32x4.add(a6, a7))
  a0 = i32x4.add(a0, a4)
  const low = i32x4.extract_lane(a0, 0) + i32x4.extract_lane(a0, 1)
  const high = i32x4.extract_lane(a0, 2) + i32x4.extract_lane(a0, 3)
  store<i32>(pointer(record, READ_SUMS) + (<usize>part << 6), low + high)
}

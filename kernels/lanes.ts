// Four lanes into one number: always by the same tree.

// (l0 + l1) + (l2 + l3)
@inline
export function sum4(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3))
}

@inline
export function max4(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  )
}

// Four numbers of which only the first `left` exist; the others are zeros.
export function partial(at: usize, left: i32): v128 {
  if (left >= 4) return v128.load(at)
  let lanes = f32x4.splat(0)
  if (left > 0) lanes = f32x4.replace_lane(lanes, 0, load<f32>(at))
  if (left > 1) lanes = f32x4.replace_lane(lanes, 1, load<f32>(at, 4))
  if (left > 2) lanes = f32x4.replace_lane(lanes, 2, load<f32>(at, 8))
  return lanes
}

// Ones in the first `left` lanes.
@inline
export function firstLanes(left: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(left))
}

// Integers are exact in any order.
@inline
export function sum4i(v: v128): i32 {
  return (
    i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + (i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3))
  )
}

// The random words of many tokens at one position: Threefry-2x32 with 20 rounds (Salmon et al., SC 2011), four tokens to
// a vector, two vectors side by side, because each round waits for the one before: 429 us instead of 547 for 128,256
// tokens (Zen 3, Node 24). Its twin: src/generate/noise.ts.

const KEY_PARITY: i32 = 0x1bd11bda

// The second word of a round: turned by `bits`, and the first one into it.
@inline
function mix(y: v128, x: v128, bits: i32): v128 {
  return v128.xor(v128.or(i32x4.shl(y, bits), i32x4.shr_u(y, 32 - bits)), x)
}

// Of the tokens [first, end) those whose first random word is at least `least`, unsigned, as three words each from `at`
// on: token, first word, second word. Returns how many. There must be room for all of them and two vectors more.
export function outliers(
  key0: i32,
  key1: i32,
  position: i32,
  first: i32,
  end: i32,
  least: i32,
  at: usize,
): i32 {
  const key2 = KEY_PARITY ^ key0 ^ key1
  const k0 = i32x4.splat(key0)
  const k1 = i32x4.splat(key1)
  const k2 = i32x4.splat(key2)
  const edge = i32x4.splat(least)
  let found = 0
  for (let token = first; token < end; token += 8) {
    let x = i32x4.splat(position + key0)
    let u = x
    let y = i32x4.add(i32x4.add(i32x4.splat(token), i32x4(0, 1, 2, 3)), k1)
    let v = i32x4.add(y, i32x4.splat(4))
    for (let group = 0; ; group++) {
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 13)
      v = mix(v, u, 13)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 15)
      v = mix(v, u, 15)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 26)
      v = mix(v, u, 26)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 6)
      v = mix(v, u, 6)
      if (group == 2) break
      const odd = group == 0 ? k1 : k0
      const even = i32x4.add(group == 0 ? k2 : k1, i32x4.splat(2 * group + 1))
      x = i32x4.add(x, odd)
      u = i32x4.add(u, odd)
      y = i32x4.add(y, even)
      v = i32x4.add(v, even)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 17)
      v = mix(v, u, 17)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 29)
      v = mix(v, u, 29)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 16)
      v = mix(v, u, 16)
      x = i32x4.add(x, y)
      u = i32x4.add(u, v)
      y = mix(y, x, 24)
      v = mix(v, u, 24)
      const next = group == 0 ? k2 : k1
      const last = i32x4.add(group == 0 ? k0 : k2, i32x4.splat(2 * group + 2))
      x = i32x4.add(x, next)
      u = i32x4.add(u, next)
      y = i32x4.add(y, last)
      v = i32x4.add(v, last)
    }
    x = i32x4.add(x, k2)
    u = i32x4.add(u, k2)
    const many = i32x4.ge_u(x, edge)
    const more = i32x4.ge_u(u, edge)
    if (!v128.any_true(v128.or(many, more))) continue
    const fifth = i32x4.splat(5)
    y = i32x4.add(i32x4.add(y, k0), fifth)
    v = i32x4.add(i32x4.add(v, k0), fifth)
    found = keep(x, y, i32x4.bitmask(many), token, end, at, found)
    found = keep(u, v, i32x4.bitmask(more), token + 4, end, at, found)
  }
  return found
}

// Notes the lanes of a mask. The vectors pass through the memory behind the list.
function keep(x: v128, y: v128, mask: i32, token: i32, end: i32, at: usize, found: i32): i32 {
  const lanes = at + <usize>found * 12 + 48
  v128.store(lanes, x)
  v128.store(lanes, y, 16)
  for (; mask != 0; mask &= mask - 1) {
    const lane = ctz(mask)
    if (token + lane >= end) break
    const entry = at + <usize>found * 12
    store<i32>(entry, token + lane)
    store<i32>(entry, load<i32>(lanes + (<usize>lane << 2)), 4)
    store<i32>(entry, load<i32>(lanes + (<usize>lane << 2), 16), 8)
    found++
  }
  return found
}

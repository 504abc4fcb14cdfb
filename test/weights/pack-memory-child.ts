/** Packs SOURCE into OUTPUT as WEIGHTS and prints the most memory that this process had, in bytes. */
import { readFileSync } from 'node:fs'
import type { Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'

const [source, output, weights] = process.argv.slice(2)
packModel(source, output, { weights: weights as Kind })
const [, peak] = readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s*(\d+) kB$/m)!
console.log(Number(peak) * 1024)

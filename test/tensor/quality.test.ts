/** Quantised weights predict a text nearly as well as f32 weights do. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { measureQuality, type Predict, windowsOf } from '../../bench/perplexity.ts'
import type { Kind } from '../../src/tensor/layout.ts'

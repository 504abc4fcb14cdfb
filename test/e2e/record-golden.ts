/** Writes test/e2e/golden.json anew, after a change that is meant to change the numbers. */
import { writeFileSync } from 'node:fs'
import { KINDS } from '../../src/tensor/layout.ts'
import { GOLDEN_FILE, writeGoldenTexts } from './golden-cases.ts'

const texts = KINDS.flatMap((weights) => writeGoldenTexts(weights))
const lines = texts.map((text) => `  ${JSON.stringify(text)}`).join(',\n')
writeFileSync(GOLDEN_FILE, `[\n${lines}\n]\n`)
console.log(`${texts.length} texts written to ${GOLDEN_FILE}`)

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { generationDefaults } from '../../src/generate/sampling-options.ts'
import { expectFailure } from '../weights/checkpoints.ts'

const test = suite('sampling options of a model')

test('a model samples by default only if its generation_config.json says so', () => {
  assert.equal(generationDefaults(undefined), { sampling: {}, eosTokens: [] })
  assert.equal(generationDefaults('{}').sampling, { temperature: 0 })
  assert.equal(generationDefaults('{"do_sample": true}').sampling, { temperature: 1 })
  assert.equal(generationDefaults('{"do_sample": false, "temperature": 0.6, "top_p": 0.9}').sampling, {
    temperature: 0,
    topP: 0.9,
  })
  const json =
    '{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": null, "repetition_penalty": 1.05, "eos_token_id": [7, 9]}'
  assert.equal(generationDefaults(json), {
    sampling: { temperature: 0.7, topK: 20, topP: 0.8, repeatPenalty: 1.05, repeatWindow: -1 },
    eosTokens: [7, 9],
  })
  assert.equal(generationDefaults('{"eos_token_id": 2}').eosTokens, [2])
})

test('a generation_config.json that makes no sense is named', () => {
  expectFailure(() => generationDefaults('{"top_p": 0.9'), 'CORRUPT_FILE', /generation_config.json .* not JSON/)
  expectFailure(() => generationDefaults('[]'), 'CORRUPT_FILE', /not a JSON object/)
  expectFailure(() => generationDefaults('{"top_p": "high"}'), 'CORRUPT_FILE', /top_p must be a number .* not "high"/)
  expectFailure(() => generationDefaults('{"eos_token_id": "</s>"}'), 'CORRUPT_FILE', /eos_token_id/)
})

test.run()

import { statSync, truncateSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readStateFor, tokenMeaning, writeState } from '../../src/engine/drafter-state.ts'
import { MOST_STATE_BYTES } from '../../src/speculate/state-file.ts'
import { TokenTableBuilder } from '../../src/text/token-table.ts'
import { type AddedToken, Vocabulary } from '../../src/text/vocabulary.ts'
import { assertFails } from '../runtime/failures.ts'
import { codeOf } from './failures.ts'
import { scratch } from './harness.ts'
import { GREEDY, LONG, outcome, PROMPT, withModel } from './open-model.ts'

const SOURCES_ONLY = { draft: 'none', drafters: ['hybrid' as const] }
const TEXT = { ...GREEDY, maxTokens: 24, ignoreEos: true }
const file = (name: string): string => join(scratch, name)

const meanings = suite('what tokens mean')

function vocabularyOf(texts: readonly string[], added: readonly AddedToken[] = []): Vocabulary {
  const builder = new TokenTableBuilder(texts.join().length + 4 * texts.length)
  for (const [id, text] of texts.entries()) {
    const bytes = new TextEncoder().encode(text)
    builder.add(bytes, bytes.length, id)
  }
  return new Vocabulary(builder.finish(), added, new Set(added.map(({ id }) => id)))
}

meanings('it differs with any token, any special one, and the number of them', () => {
  const meaning = tokenMeaning(3, vocabularyOf(['a', 'b', 'c']))
  assert.equal(meaning, tokenMeaning(3, vocabularyOf(['a', 'b', 'c'])))
  const others = [
    tokenMeaning(4, vocabularyOf(['a', 'b', 'c'])),
    tokenMeaning(3, vocabularyOf(['a', 'c', 'b'])),
    tokenMeaning(3, vocabularyOf(['a', 'b'])),
    tokenMeaning(3, vocabularyOf(['a', 'b', 'c'], [{ id: 2, content: 'c' }])),
    tokenMeaning(3, undefined),
  ]
  for (const other of others) assert.not.equal(other, meaning)
})

meanings.run()

const files = suite('state files')

files('one that is longer than any is not even read', () => {
  const long = file('long')
  const meaning = { vocabulary: 1, tokens: 'x' }
  writeState(long, { meaning, sections: [] })
  assert.equal(readStateFor(long, meaning).sections, [])
  // A hole, which takes no space.
  truncateSync(long, MOST_STATE_BYTES + 1)
  assert.match(assertFails(() => readStateFor(long, meaning), 'CORRUPT_FILE').message, 'none is longer than')
})

files('what is written takes the place of what was there, and its length is told', () => {
  const name = file('replaced')
  writeFileSync(name, 'something else')
  const bytes = writeState(name, {
    meaning: { vocabulary: 7, tokens: 'x' },
    sections: [{ source: 'trie', bytes: new Uint8Array(9) }],
  })
  assert.is(statSync(name).size, bytes)
})

files.run()

async function drain(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces) {
    // What comes does not matter.
  }
}

const models = suite('the state of a model’s drafters')

models('calls about it queue as others do; what was saved is what was written before', async () => {
  const state = file('queued')
  await withModel(async (model) => {
    const written = model.complete(PROMPT, TEXT)
    const saved = model.saveDrafterState(relative(process.cwd(), state))
    const forgotten = model.forgetOwner('')
    const uses = model.drafterMemory()
    const cold = await written
    await Promise.all([saved, forgotten])
    assert.equal(await uses, [])
    const again = await model.complete(PROMPT, TEXT)
    assert.is(again.stats.tokens, cold.stats.tokens)
    const held = await model.drafterMemory()
    assert.equal(
      held.map(({ owner, source }) => `${owner}/${source}`),
      ['/trie', '/trigram', '/recycle', '/ngram'],
    )
    assert.ok(held.every(({ bytes }) => bytes > 0))
    await withModel(
      async (next) => {
        const warm = await next.complete(PROMPT, TEXT)
        assert.equal(outcome(warm), outcome(cold))
        assert.ok(warm.stats.passes < cold.stats.passes, `${warm.stats.passes} of ${cold.stats.passes} passes`)
      },
      { ...SOURCES_ONLY, drafterState: state },
    )
  }, SOURCES_ONLY)
})

models('texts that are read teach their owner', async () => {
  await withModel(async (model) => {
    const cold = await model.complete(PROMPT, { ...TEXT, owner: 'a' })
    await model.forgetOwner('a')
    await model.warmDrafters(PROMPT + cold.text, { owner: 'a' })
    const warm = await model.complete(PROMPT, { ...TEXT, owner: 'a' })
    assert.ok(warm.stats.passes < cold.stats.passes, `${warm.stats.passes} of ${cold.stats.passes} passes`)
    assert.is(await codeOf(model.warmDrafters([1e9])), 'INVALID_INPUT')
    assert.is(await codeOf(model.saveDrafterState(file('nobody'), { owner: 'nobody' })), 'INVALID_OPTION')
    assert.is(await codeOf(model.saveDrafterState(file('no/such/directory'))), 'FILE_SYSTEM')
    assert.is(await codeOf(model.saveDrafterState(7 as unknown as string)), 'INVALID_OPTION')
    // Nothing of that has harmed the model.
    assert.equal(outcome(await model.complete(PROMPT, { ...TEXT, owner: 'a' })), outcome(cold))
  }, SOURCES_ONLY)
})

models('a text that was aborted has taught what was written of it', async () => {
  const state = file('aborted')
  await withModel(async (model) => {
    const controller = new AbortController()
    const pieces = model.generate(PROMPT, { ...LONG, signal: controller.signal })
    for (let i = 0; i < 24; i++) await pieces.next()
    controller.abort()
    await codeOf(drain(pieces))
    await model.saveDrafterState(state)
  }, SOURCES_ONLY)
  await withModel(
    async (model) => {
      const { stats } = await model.complete(PROMPT, TEXT)
      assert.ok(stats.passes < stats.tokens / 2, `${stats.passes} passes for ${stats.tokens} tokens`)
    },
    { ...SOURCES_ONLY, drafterState: state },
  )
})

models('a load with a state that is not there fails, and so does a closed model’s', async () => {
  const loading = withModel(async () => {}, { ...SOURCES_ONLY, drafterState: file('missing') })
  assert.is(await codeOf(loading), 'FILE_SYSTEM')
  await withModel(async (model) => {
    await model.close()
    assert.is(await codeOf(model.saveDrafterState(file('closed'))), 'CLOSED')
    assert.is(await codeOf(model.warmDrafters('x')), 'CLOSED')
    assert.is(await codeOf(model.drafterMemory()), 'CLOSED')
    assert.is(await codeOf(model.forgetOwner('')), 'CLOSED')
  }, SOURCES_ONLY)
})

models.run()

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { memoryPlaces } from '../../bench/cgroup.ts'
import { scratch } from '../engine/harness.ts'

const test = suite('control groups')

/** A directory that stands for a mounted hierarchy. */
function hierarchy(name: string, groups: string, controllers?: string): string {
  const directory = join(scratch, name)
  mkdirSync(join(directory, groups), { recursive: true })
  if (controllers !== undefined) writeFileSync(join(directory, 'cgroup.controllers'), `${controllers}\n`)
  return directory
}

const mounted = (type: string, root: string, point: string, options = 'rw'): string =>
  `30 23 0:26 ${root} ${point} rw,nosuid - ${type} ${type} ${options}`

test('version 1: the own group of the memory controller, also beside a version 2 without it', () => {
  const cpu = hierarchy('v1-cpu', 'job')
  const memory = hierarchy('v1-memory', 'user/job')
  const unified = hierarchy('v1-unified', 'job', 'hugetlb')
  const mounts = [
    mounted('cgroup2', '/', unified),
    mounted('cgroup', '/', cpu, 'rw,cpu'),
    mounted('cgroup', '/', memory, 'rw,memory'),
  ].join('\n')
  const own = '9:cpu:/job\n4:memory:/user/job\n0::/job\n'
  assert.equal(memoryPlaces(own, mounts), [{ directory: join(memory, 'user/job'), version: 1 }])
})

test('version 2: the own group, then the one above, which may hand memory on', () => {
  const unified = hierarchy('v2', 'app.slice/job.scope', 'cpu io memory pids')
  assert.equal(memoryPlaces('0::/app.slice/job.scope\n', mounted('cgroup2', '/', unified)), [
    { directory: join(unified, 'app.slice/job.scope'), version: 2 },
    { directory: join(unified, 'app.slice'), version: 2 },
  ])
})

test('a container that sees its own group only has it at the mount, whatever its path outside', () => {
  const memory = hierarchy('container', '')
  const own = '4:cpu,memory:/docker/abc\n'
  const here = [{ directory: memory, version: 1 }]
  assert.equal(memoryPlaces(own, mounted('cgroup', '/docker/abc', memory, 'rw,cpu,memory')), here)
  assert.equal(memoryPlaces(own, mounted('cgroup', '/', memory, 'rw,cpu,memory')), here)
})

test('without a memory controller it says so', () => {
  const unified = hierarchy('no-memory', '', 'cpu io')
  assert.match(memoryPlaces('0::/\n', mounted('cgroup2', '/', unified)) as string, /no memory controller/)
})

test.run()

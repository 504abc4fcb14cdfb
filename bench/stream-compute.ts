/** What the passes of bench/stream.ts cost when nothing comes from disk. */
import type { ModelPlan } from '../src/engine/types.ts'
import { median } from './report.ts'
import { planOf, residentLayers, type StreamModel } from './stream-model.ts'
import { PassProcess } from './stream-process.ts'

/** Passes with all weights in memory: of the whole model, or of two beginnings of it that tell what a layer costs. */
export class Compute {
  readonly processes: readonly PassProcess[]
  /** How it is measured. */
  readonly description: string
  /** The processes' layers. */
  readonly #layers: readonly number[]
  readonly #wanted: number

  /** @param layers of the whole model */
  constructor(model: StreamModel, layers: number, prefix: number) {
    const most = residentLayers(model, layers)
    this.#wanted = layers
    this.#layers = most === layers ? [layers] : [most, Math.ceil(most / 2)]
    const plans = this.#layers.map((keep) => residentPlan({ ...model, layers: keep }))
    this.processes = this.#layers.map((keep, i) => {
      const request = { model: { ...model, layers: keep }, prefix, readAhead: true }
      return new PassProcess(`${keep} layers resident`, plans[i], request)
    })
    this.description =
      most === layers
        ? 'compute alone: the same passes, all weights resident'
        : `compute alone: from passes of the first ${this.#layers.join(' and ')} of ${layers} layers, resident; more does not fit`
  }

  get isWhole(): boolean {
    return this.#layers.length === 1
  }

  /** @param times ms per pass of each process @returns ms of a pass through all layers */
  ms(times: readonly (readonly number[])[]): number {
    const [long, short] = times.map(median)
    if (this.isWhole) return long
    const [most, less] = this.#layers
    return long + ((this.#wanted - most) * (long - short)) / (most - less)
  }
}

function residentPlan(model: StreamModel): ModelPlan {
  const plan = planOf(model, 1)
  if (typeof plan === 'string') throw new Error(`${model.layers} layers were to fit in memory, but ${plan}`)
  return plan
}

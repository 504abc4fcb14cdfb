/** A compute thread whose kernels only count. */
import { parentPort, workerData } from 'node:worker_threads'
import { serveJobs } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { type CountingData, countingKernels, Tally } from './counting-kernels.ts'

const { control, tally, threads, cores } = workerData as CountingData
parentPort?.postMessage('ready')
serveJobs({ kernels: countingKernels(new Tally(tally)), control: new Control(control), threads, cores })

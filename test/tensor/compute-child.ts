/** A compute thread whose kernels only count: shares executed so far, by share. */
import { parentPort, workerData } from 'node:worker_threads'
import { serveJobs } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { type CountingData, countingKernels } from './counting-kernels.ts'

const { control, counts, threads } = workerData as CountingData
parentPort?.postMessage('ready')
serveJobs(countingKernels(counts), new Control(control), threads)

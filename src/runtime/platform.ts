import * as os from 'node:os'
export const now = (): number => performance.now()
export const cores = (): number => os.availableParallelism()
export const availableMemoryBytes = (): number => os.freemem()
export const randomSeed = (): number => Math.floor(Math.random() * 2 ** 53)
export const decodeBase64 = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, 'base64'))

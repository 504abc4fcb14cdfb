/** Rejections as values, and promises that must not take long. */

/** What a promise was rejected with; throws when it was fulfilled. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  let value: unknown
  try {
    value = await promise
  } catch (error) {
    return error as Error
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)?.slice(0, 200)}`)
}

/** The code of the error that a promise was rejected with, or the error in words. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await rejection(promise)
  return 'code' in error ? String(error.code) : String(error)
}

/** Fails when the promise is not settled in time. */
export async function within<T>(ms: number, promise: Promise<T>, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

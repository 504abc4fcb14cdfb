export const parseBytes = (text: string): number => Number.parseFloat(text) * 1e6
export const formatBytes = (n: number): string => `${(n / 1e6).toFixed(1)} MB`

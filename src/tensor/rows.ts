/** f32 rows in memory: row r begins at `pointer + r * stride` bytes. */
export class Rows {
  readonly pointer: number
  readonly stride: number
  readonly columns: number

  constructor(pointer: number, stride: number, columns: number) {
    this.pointer = pointer
    this.stride = stride
    this.columns = columns
  }

  rowsFrom(row: number): Rows {
    return new Rows(this.pointer + row * this.stride, this.stride, this.columns)
  }

  columnsFrom(column: number): Rows {
    return new Rows(this.pointer + column * 4, this.stride, this.columns - column)
  }
}

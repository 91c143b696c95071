import { ConnectionError, ErrorCode } from "../protocol.ts";

/**
 * Bits of the code of each byte (RFC 7541, appendix B). The code is canonical: shorter codes come first, and among codes
 * of one length those of smaller bytes, so the lengths tell all of it. The end-of-string symbol has what is left: 30 ones.
 */
const codeBits: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const endOfString = 256;
const endOfStringBits = 30;
const shortestBits = 5;

/**
 * The code as a binary tree: entry `2 * node + bit` is the next node, or `~symbol` where a code ends. Built when the first
 * coded string comes.
 */
let tree: Int16Array | undefined;

function buildTree(): Int16Array {
  const symbols = [...codeBits.keys(), endOfString];
  const bitsOf = (symbol: number) => codeBits[symbol] ?? endOfStringBits;
  symbols.sort((a, b) => bitsOf(a) - bitsOf(b) || a - b);
  const nodes = new Int16Array(2 * symbols.length);
  let nodeCount = 1;
  let code = 0;
  let codeLength = shortestBits;
  for (const symbol of symbols) {
    code <<= bitsOf(symbol) - codeLength;
    codeLength = bitsOf(symbol);
    let node = 0;
    for (let bit = codeLength - 1; bit > 0; bit -= 1) {
      const edge = 2 * node + ((code >>> bit) & 1);
      if (nodes[edge] === 0) {
        nodes[edge] = nodeCount;
        nodeCount += 1;
      }
      node = nodes[edge] ?? 0;
    }
    nodes[2 * node + (code & 1)] = ~symbol;
    code += 1;
  }
  return nodes;
}

/**
 * The text that `bytes` holds from `start` to `end` in HPACK's Huffman code; each byte becomes one character.
 *
 * @throws {ConnectionError} if it is not validly coded: the end-of-string symbol inside, or padding that is longer than
 *   seven bits or not all ones.
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string {
  tree ??= buildTree();
  const text = Buffer.allocUnsafe(Math.ceil(((end - start) * 8) / shortestBits));
  let length = 0;
  let node = 0;
  let pendingBits = 0;
  let pendingAreOnes = true;
  for (let offset = start; offset < end; offset += 1) {
    const byte = bytes[offset] ?? 0;
    for (let shift = 7; shift >= 0; shift -= 1) {
      const bit = (byte >>> shift) & 1;
      const next = tree[2 * node + bit] ?? 0;
      if (next >= 0) {
        node = next;
        pendingBits += 1;
        pendingAreOnes &&= bit === 1;
        continue;
      }
      if (~next === endOfString) {
        throw new ConnectionError(ErrorCode.compressionError, "a coded string has an end inside");
      }
      text[length] = ~next;
      length += 1;
      node = 0;
      pendingBits = 0;
      pendingAreOnes = true;
    }
  }
  if (pendingBits > 7 || !pendingAreOnes) {
    throw new ConnectionError(ErrorCode.compressionError, "a coded string does not end as it should");
  }
  return text.toString("latin1", 0, length);
}

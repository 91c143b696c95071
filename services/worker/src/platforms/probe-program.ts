/** How a program of an architecture says that it has run: by ending with code 0. */
interface Machine {
  /** `e_machine` of its programs (elf.h). */
  readonly number: number;
  readonly bits: 32 | 64;
  readonly isBigEndian: boolean;
  /** `e_flags`: which calling convention is meant, where there are several. */
  readonly flags: number;
  /** Instructions for exit(0), as they lie in memory. */
  readonly code: string;
}

const little = { isBigEndian: false, flags: 0, bits: 64 } as const;
const big = { isBigEndian: true, flags: 0, bits: 64 } as const;

/** By Go's names of the architectures. The system calls are those of syscall(2). */
const machines = {
  // xor edi, edi; mov eax, 60; syscall
  amd64: { ...little, number: 62, code: "31ff b83c000000 0f05" },
  // xor ebx, ebx; mov eax, 1; int 0x80
  "386": { ...little, bits: 32, number: 3, code: "31db b801000000 cd80" },
  // mov x0, 0; mov x8, 93; svc 0
  arm64: { ...little, number: 183, code: "000080d2 a80b80d2 010000d4" },
  // mov r0, 0; mov r7, 1; svc 0 (EABI 5)
  arm: { ...little, bits: 32, flags: 0x0500_0000, number: 40, code: "0000a0e3 0170a0e3 000000ef" },
  // li a0, 0; li a7, 93; ecall
  riscv64: { ...little, number: 243, code: "13050000 9308d005 73000000" },
  // ori a0, zero, 0; ori a7, zero, 93; syscall 0
  loong64: { ...little, number: 258, code: "04008003 0b748103 00002b00" },
  // li r3, 0; li r0, 1; sc (ELFv2, in which the entry is an address and no descriptor)
  ppc64le: { ...little, flags: 2, number: 21, code: "00006038 01000038 02000044" },
  ppc64: { ...big, flags: 2, number: 21, code: "38600000 38000001 44000002" },
  // lghi r2, 0; svc 1
  s390x: { ...big, number: 22, code: "a7290000 0a01" },
  // li v0, 5058; move a0, zero; syscall (64-bit MIPS)
  mips64le: { ...little, flags: 0x6000_0000, number: 8, code: "c2130224 25200000 0c000000" },
  mips64: { ...big, flags: 0x6000_0000, number: 8, code: "240213c2 00002025 0000000c" },
} as const satisfies Record<string, Machine>;

export type ProbedArchitecture = keyof typeof machines;

/** Every architecture that can be asked whether it runs here. */
export const probedArchitectures = Object.keys(machines) as ProbedArchitecture[];

/** Where the program lies in memory. */
const loadAddress = 0x40_0000;

/** Of a page, for the largest pages that there are. */
const alignment = 0x1_0000;

const executableType = 2;
const currentVersion = 1;
const loadSegment = 1;
const readAndExecute = 5;

/** The least program of an architecture (elf(5)): one segment, headers and all, that ends with code 0. */
export function probeProgram(architecture: ProbedArchitecture): Buffer {
  const machine: Machine = machines[architecture];
  const code = Buffer.from(machine.code.replaceAll(" ", ""), "hex");
  const is64 = machine.bits === 64;
  const [headerBytes, segmentBytes] = is64 ? [64, 56] : [52, 32];
  const entry = headerBytes + segmentBytes;
  const size = entry + code.length;
  const writer = new ElfWriter(machine);
  writer.bytes([0x7f, ...Buffer.from("ELF"), is64 ? 2 : 1, machine.isBigEndian ? 2 : 1, currentVersion]);
  writer.bytes(Buffer.alloc(9));
  writer.half(executableType);
  writer.half(machine.number);
  writer.word(currentVersion);
  writer.address(loadAddress + entry);
  writer.address(headerBytes);
  writer.address(0);
  writer.word(machine.flags);
  for (const value of [headerBytes, segmentBytes, 1, 0, 0, 0]) {
    writer.half(value);
  }
  writer.word(loadSegment);
  if (is64) {
    writer.word(readAndExecute);
  }
  writer.address(0);
  writer.address(loadAddress);
  writer.address(loadAddress);
  writer.address(size);
  writer.address(size);
  if (!is64) {
    writer.word(readAndExecute);
  }
  writer.address(alignment);
  writer.bytes(code);
  return writer.written();
}

/** Writes fields in the size and order of a machine. */
class ElfWriter {
  readonly #machine: Machine;
  readonly #parts: Buffer[] = [];

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  bytes(bytes: Iterable<number>): void {
    this.#parts.push(Buffer.from([...bytes]));
  }

  half(value: number): void {
    this.#number(value, 2);
  }

  word(value: number): void {
    this.#number(value, 4);
  }

  address(value: number): void {
    this.#number(value, this.#machine.bits / 8);
  }

  written(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #number(value: number, size: number): void {
    const part = Buffer.alloc(size);
    if (this.#machine.isBigEndian) {
      part.writeUIntBE(value, Math.max(0, size - 6), Math.min(6, size));
    } else {
      part.writeUIntLE(value, 0, Math.min(6, size));
    }
    this.#parts.push(part);
  }
}

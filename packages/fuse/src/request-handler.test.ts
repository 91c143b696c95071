import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { errno } from "./errno.ts";
import { inHeader, Opcode } from "./protocol.ts";
import { RequestHandler } from "./request-handler.ts";
import { SampleFileSystem } from "./sample-file-system.ts";

const fileSystem = new SampleFileSystem([
  { mode: 0o040755, children: { file: 2 } },
  { mode: 0o100444, content: "content", xattrs: { "user.a": "1" } },
]);

/** Handles a request that is made by hand. */
function handled(
  opcode: number,
  node: number,
  body: Uint8Array,
): { code: number; unique: bigint; content: Buffer } {
  const handler = new RequestHandler(fileSystem);
  const length = inHeader.bytes + body.length;
  handler.request.writeUInt32LE(length, 0);
  handler.request.writeUInt32LE(opcode, inHeader.opcode);
  handler.request.writeBigUInt64LE(0x8000_0000_0000_0007n, inHeader.unique);
  handler.request.writeBigUInt64LE(BigInt(node), inHeader.node);
  handler.request.set(body, inHeader.bytes);
  const replyBytes = handler.handle(length);
  const reply = handler.reply.subarray(0, replyBytes);
  if (replyBytes === 0) {
    return { code: 0, unique: 0n, content: reply };
  }
  assert.equal(reply.readUInt32LE(0), replyBytes);
  return { code: -reply.readInt32LE(4), unique: reply.readBigUInt64LE(8), content: reply.subarray(16) };
}

describe("RequestHandler", () => {
  test("echoes the number of a request, also of one that is sent again", () => {
    assert.equal(handled(Opcode.lookup, 1, Buffer.from("file\0")).unique, 0x8000_0000_0000_0007n);
  });

  test("names the request that it fails, whatever it has answered before", () => {
    const handler = new RequestHandler(fileSystem);
    handler.request.writeBigUInt64LE(0x8000_0000_0000_0009n, inHeader.unique);
    const reply = handler.reply.subarray(0, handler.fail(errno.EIO));
    assert.deepEqual([reply.readInt32LE(4), reply.readBigUInt64LE(8)], [-errno.EIO, 0x8000_0000_0000_0009n]);
  });

  test("answers with the errors that the kernel expects", () => {
    assert.equal(handled(Opcode.getattr, 77, Buffer.alloc(16)).code, errno.ENOENT);
    assert.equal(handled(Opcode.setattr, 2, Buffer.alloc(88)).code, errno.EROFS);
    assert.equal(handled(9999, 2, Buffer.alloc(8)).code, errno.ENOSYS);
    assert.equal(handled(Opcode.readdir, 2, Buffer.alloc(40)).code, errno.ENOENT);
    const small = Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("user.long\0")]);
    assert.equal(handled(Opcode.getxattr, 2, small).code, errno.ENODATA);
    assert.equal(handled(Opcode.listxattr, 2, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])).code, errno.ERANGE);
  });

  test("answers whatever it is asked without failing", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(60), fc.nat(0xffff_ffff)),
        fc.nat(5),
        fc.uint8Array({ maxLength: 200 }),
        (opcode, node, body) => {
          const { code } = handled(opcode, node, body);
          assert(code >= 0 && code < 200, `errno ${code}`);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("refuses a request that is shorter than its header", () => {
    const handler = new RequestHandler(fileSystem);
    for (let length = 0; length < inHeader.bytes; length += 1) {
      assert.equal(handler.handle(length), 16);
      assert.equal(handler.reply.readInt32LE(4), -errno.EINVAL);
    }
  });
});

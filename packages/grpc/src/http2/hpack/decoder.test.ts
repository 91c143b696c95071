import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  array,
  assert as assertProperty,
  constantFrom,
  oneof,
  property,
  string,
  tuple,
  uint8Array,
} from "fast-check";
import { ConnectionError, ErrorCode } from "../protocol.ts";
import { HpackDecoder } from "./decoder.ts";
import { encodeFields } from "./encoder.ts";

const unlimited = 2 ** 20;

function decode(decoder: HpackDecoder, hex: string): readonly string[] {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
  return decoder.decode(bytes, 0, bytes.length).raw;
}

/** Makes the table 256 bytes, which is what the responses in the RFC's appendix have. */
const smallTable = "3fe101";

const getExample = [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"];
const httpsExample = [
  ...[":method", "GET", ":scheme", "https", ":path", "/index.html"],
  ...[":authority", "www.example.com", "custom-key", "custom-value"],
];
const redirect = (status: string) => [
  ...[":status", status, "cache-control", "private"],
  ...["date", "Mon, 21 Oct 2013 20:13:21 GMT", "location", "https://www.example.com"],
];
const answer = [
  ...[":status", "200", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:22 GMT"],
  ...["location", "https://www.example.com", "content-encoding", "gzip"],
  ...["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
];

/** RFC 7541, appendix C: each of its sections is one connection. */
const examples: readonly { readonly section: string; readonly blocks: readonly [string, string[]][] }[] = [
  {
    section: "C.2.1",
    blocks: [
      ["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", ["custom-key", "custom-header"]],
    ],
  },
  { section: "C.2.2", blocks: [["040c 2f73 616d 706c 652f 7061 7468", [":path", "/sample/path"]]] },
  { section: "C.2.3", blocks: [["1008 7061 7373 776f 7264 0673 6563 7265 74", ["password", "secret"]]] },
  { section: "C.2.4", blocks: [["82", [":method", "GET"]]] },
  {
    section: "C.3",
    blocks: [
      ["8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", getExample],
      ["8286 84be 5808 6e6f 2d63 6163 6865", [...getExample, "cache-control", "no-cache"]],
      ["8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", httpsExample],
    ],
  },
  {
    section: "C.4",
    blocks: [
      ["8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", getExample],
      ["8286 84be 5886 a8eb 1064 9cbf", [...getExample, "cache-control", "no-cache"]],
      ["8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", httpsExample],
    ],
  },
  {
    section: "C.5",
    blocks: [
      [
        `${smallTable} 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032
         303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        redirect("302"),
      ],
      ["4803 3330 37c1 c0bf", redirect("307")],
      [
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
        answer,
      ],
    ],
  },
  {
    section: "C.6",
    blocks: [
      [
        `${smallTable} 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b
         ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
        redirect("302"),
      ],
      ["4883 640e ffc1 c0bf", redirect("307")],
      [
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
        answer,
      ],
    ],
  },
];

describe("HpackDecoder", () => {
  for (const { section, blocks } of examples) {
    test(`reads the examples of RFC 7541, ${section}`, () => {
      const decoder = new HpackDecoder(unlimited);
      for (const [hex, want] of blocks) {
        assert.deepEqual(decode(decoder, hex.replaceAll(/\s/g, "")), want);
      }
    });
  }

  const broken = [
    { name: "an index of zero", hex: "80" },
    { name: "an index beyond the table", hex: "be" },
    { name: "a name beyond the table", hex: "7f00 00" },
    { name: "a number that does not end", hex: "ff" },
    { name: "a number that is too large", hex: "ffff ffff ffff ffff ffff 7f" },
    { name: "a number of endless zeros", hex: `ff ${"80".repeat(64)} 01` },
    { name: "a string that does not end", hex: "400a 6375" },
    { name: "a field without a value", hex: "4001 61" },
    { name: "a larger table than was allowed", hex: "3fe2 1f" },
    { name: "a new size of the table after a field", hex: "8220" },
    { name: "a coded string with its end inside", hex: "0084 ffff fffc 00" },
    { name: "a coded string with a byte of padding", hex: "0082 1fff 00" },
    { name: "a coded string with padding of zeros", hex: "0081 1800" },
  ];
  for (const { name, hex } of broken) {
    test(`refuses ${name}`, () => {
      assert.throws(() => decode(new HpackDecoder(unlimited), hex), { code: ErrorCode.compressionError });
    });
  }

  test("forgets what does not fit into the table, and all of it when a field is larger", () => {
    const decoder = new HpackDecoder(unlimited);
    // Two entries of 34 bytes do not fit into 40.
    assert.deepEqual(decode(decoder, "3f09 4001 6101 62"), ["a", "b"]);
    assert.deepEqual(decode(decoder, "be"), ["a", "b"]);
    assert.deepEqual(decode(decoder, "4001 6301 64"), ["c", "d"]);
    assert.deepEqual(decode(decoder, "be"), ["c", "d"]);
    assert.throws(() => decode(decoder, "bf"), ConnectionError);
    const { version } = decoder;
    decode(decoder, `400a ${"61".repeat(10)} 00`);
    assert.notEqual(decoder.version, version);
    assert.throws(() => decode(decoder, "be"), ConnectionError);
  });

  test("keeps no more fields than the limit and still follows the table", () => {
    const decoder = new HpackDecoder(100);
    const bytes = Buffer.concat([
      encodeFields(["name", "x".repeat(200), "after", "it"]),
      Buffer.from("4001 6101 62".replaceAll(" ", ""), "hex"),
    ]);
    assert.deepEqual(decoder.decode(bytes, 0, bytes.length), { raw: [], isTooLarge: true });
    assert.deepEqual(decode(decoder, "be"), ["a", "b"]);
  });

  test("reads what the encoder writes, whatever the fields", () => {
    const text = string({ unit: "binary", maxLength: 300 }).map((value) =>
      Buffer.from(value).toString("latin1"),
    );
    const known = constantFrom(":status", ":path", "content-type", "grpc-status", "cookie");
    void assertProperty(
      property(array(tuple(oneof(known, text), oneof(constantFrom("200", "/", ""), text))), (fields) => {
        const block = encodeFields(fields.flat());
        const { raw } = new HpackDecoder(unlimited).decode(block, 0, block.length);
        assert.deepEqual(raw, fields.flat());
      }),
    );
  });

  test("takes any bytes for fields or for a mistake of the peer", () => {
    void assertProperty(
      property(uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          new HpackDecoder(unlimited).decode(Buffer.from(bytes), 0, bytes.length);
        } catch (thrown) {
          assert(thrown instanceof ConnectionError, String(thrown));
        }
      }),
      { numRuns: 1000 },
    );
  });
});

// Serves one file whose reads are answered late, if at all, on the device that it has inherited.
import { answerRead, readReply, readReplyHeaderBytes, resendUnanswered } from "./device.ts";
import { lateContent, lateLine, SampleFileSystem, servingLine } from "./sample-file-system.ts";
import { serveFileSystem } from "./serve.ts";

const inheritedFd = 3;
const shouldAnswer = process.argv[2] === "answer";

const fileSystem = new SampleFileSystem(
  [
    { mode: 0o040755, children: { late: 2 } },
    { mode: 0o100444, content: lateContent, isLate: true },
  ],
  {
    onLate: (unique) => {
      process.stdout.write(`${lateLine}\n`);
      if (shouldAnswer) {
        const reply = readReply(100);
        answerRead(inheritedFd, unique, reply, reply.write(lateContent, readReplyHeaderBytes));
      }
    },
  },
);
process.stdout.write(`${servingLine}\n`);
resendUnanswered(inheritedFd);
serveFileSystem(inheritedFd, fileSystem);

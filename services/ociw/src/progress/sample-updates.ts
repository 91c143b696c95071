import type { StatusUpdate, TaskUpdate, VertexUpdate } from "@oci-worker/client/status";

const digest = "0123456789abcdef".repeat(4);

/** For tests: an update with these parts, the rest of each filled in. */
export function update(parts: {
  readonly vertices?: readonly (Partial<VertexUpdate> & { readonly digest: string })[];
  readonly tasks?: readonly (Partial<TaskUpdate> & { readonly vertex: string; readonly id: string })[];
  readonly warnings?: StatusUpdate["warnings"];
}): StatusUpdate {
  return {
    vertices: (parts.vertices ?? []).map((vertex) => ({
      inputs: [],
      name: vertex.digest,
      cached: false,
      startedAtMs: undefined,
      completedAtMs: undefined,
      error: "",
      ...vertex,
    })),
    tasks: (parts.tasks ?? []).map((task) => ({
      name: "",
      current: 0,
      total: 0,
      startedAtMs: undefined,
      completedAtMs: undefined,
      ...task,
    })),
    logs: [],
    warnings: parts.warnings ?? [],
  };
}

/**
 * For tests: the updates of a pull and a step, in the order in which buildkitd sends them. The image's step ends once
 * when it is known what to do, and begins again to do it. Milliseconds count from 0.
 */
export const pullAndRun: readonly StatusUpdate[] = [
  update({
    vertices: [
      {
        digest: "resolve",
        name: "resolve image config for docker.io/library/busybox:latest",
        startedAtMs: 0,
      },
    ],
  }),
  update({
    vertices: [
      {
        digest: "resolve",
        name: "resolve image config for docker.io/library/busybox:latest",
        startedAtMs: 0,
        completedAtMs: 300,
      },
    ],
  }),
  update({
    vertices: [
      { digest: "exec", name: "echo hello", inputs: ["image"] },
      { digest: "image", name: "docker-image://docker.io/library/busybox:latest", startedAtMs: 300 },
    ],
  }),
  update({
    vertices: [
      {
        digest: "image",
        name: "docker-image://docker.io/library/busybox:latest",
        startedAtMs: 300,
        completedAtMs: 310,
      },
    ],
  }),
  update({
    vertices: [
      { digest: "image", name: "docker-image://docker.io/library/busybox:latest", startedAtMs: 400 },
    ],
    tasks: [
      { vertex: "image", id: `sha256:${digest}`, current: 500_000, total: 2_000_000, startedAtMs: 400 },
    ],
  }),
  update({
    tasks: [
      {
        vertex: "image",
        id: `sha256:${digest}`,
        current: 2_000_000,
        total: 2_000_000,
        startedAtMs: 400,
        completedAtMs: 900,
      },
      { vertex: "image", id: `extracting sha256:${digest}`, startedAtMs: 900 },
    ],
  }),
  update({
    vertices: [
      {
        digest: "image",
        name: "docker-image://docker.io/library/busybox:latest",
        startedAtMs: 400,
        completedAtMs: 1000,
      },
    ],
    tasks: [{ vertex: "image", id: `extracting sha256:${digest}`, startedAtMs: 900, completedAtMs: 1000 }],
  }),
  update({ vertices: [{ digest: "exec", name: "echo hello", inputs: ["image"], startedAtMs: 1000 }] }),
  update({
    vertices: [
      { digest: "exec", name: "echo hello", inputs: ["image"], startedAtMs: 1000, completedAtMs: 1250 },
    ],
  }),
];

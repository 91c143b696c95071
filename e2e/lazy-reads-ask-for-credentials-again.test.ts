import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { assembleImage, pushImage } from "./peers/image.ts";
import { distinctFiles, openLazyView } from "./peers/lazy-view.ts";
import { user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { settableClock } from "./peers/settable-clock.ts";
import { startTokenServer } from "./peers/token-server.ts";
import { startUnrulyFront } from "./peers/unruly-front.ts";

const repository = "team/lazy";

/** A docker config that the resolver reads, with a password that can be changed. */
async function dockerConfig(hosts: readonly string[]) {
  const directory = await mkdtempDisposable(join(tmpdir(), "docker-"));
  const write = async (password: string) => {
    const auth = Buffer.from(`${user.username}:${password}`).toString("base64");
    const auths = Object.fromEntries(hosts.map((host) => [host, { auth }]));
    await writeFile(join(directory.path, "config.json"), JSON.stringify({ auths }));
  };
  await write(user.password);
  return { path: directory.path, write, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

for (const mode of ["erofs", "fuse"]) {
  describe(`a lazy layer by ${mode}, of a registry that wants tokens`, () => {
    test("is read on when its token is no good any more; not with wrong credentials; and again with the right ones", async () => {
      const { layer, sums } = await distinctFiles(3);
      await using tokens = await startTokenServer({
        users: { [user.username]: { password: user.password, repositories: [repository] } },
      });
      await using registry = await startRegistry({ access: tokens.access });
      await using front = await startUnrulyFront(registry.host);
      await using docker = await dockerConfig([registry.host, front.host]);
      await using clock = await settableClock();
      await using resolver = await startResolver({
        environment: { ...clock.environment, DOCKER_CONFIG: docker.path },
      });
      const reference = parseReference(`${front.host}/${repository}:1`);
      {
        using client = new RegistryClient();
        const behind = parseReference(`${registry.host}/${repository}:1`);
        const source = await resolver.sources.sourceOf(behind, () => [], "push");
        await pushImage(client.repository(source), assembleImage([layer]), "1");
      }
      // Tokens that were given out before have expired, for the registry.
      const expired = new Set<string>();
      let refusals = 0;
      front.mishap = ({ headers }, response) => {
        const isExpired = expired.has(headers.authorization ?? "");
        if (isExpired) {
          refusals += 1;
          const { realm, service } = tokens.access;
          const scope = `repository:${repository}:pull`;
          const challenge = `Bearer realm="${realm}",service="${service}",scope="${scope}"`;
          response.writeHead(401, { "www-authenticate": challenge }).end();
        }
        return isExpired;
      };
      let seconds = 0;
      const expire = async () => {
        // The resolver takes one that is refused as soon as it has come for one that was never good.
        seconds += 60;
        await clock.set(`+${seconds}`);
        for (const token of tokens.issued) {
          expired.add(`Bearer ${token}`);
        }
      };
      const resolverAddress = resolver.address;
      await using view = await openLazyView({ reference, layer, resolverAddress, mode });
      assert.equal(await view.sum(0), sums[0]);

      await expire();
      assert.equal(await view.sum(1), sums[1]);
      assert.ok(refusals > 0, "a token was refused");
      assert.equal((await view.told()).failure, undefined);

      const wrong = "wr0ng-c4n4ry";
      await docker.write(wrong);
      await expire();
      await assert.rejects(view.sum(2), /Input\/output error/);
      const { failure = "" } = await view.told();
      assert.match(failure, /401|credentials|password/i);
      assert.equal(await view.sum(1), sums[1]);
      const said = [failure, ...view.snapshotter.log, ...resolver.log].join("\n");
      for (const secret of [wrong, user.password, ...tokens.issued]) {
        assert.ok(!said.includes(secret), `${secret} is told:\n${said}`);
      }

      await docker.write(user.password);
      assert.equal(await view.sum(2), sums[2]);
      assert.equal((await view.told()).failure, undefined);
    });
  });
}

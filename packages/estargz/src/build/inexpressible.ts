import { InvalidArgumentError } from "@oci-worker/errdefs";

/** There is nothing wrong with the layer, but it has what a TOC cannot say: it has to stay as it is. */
export class InexpressibleError extends InvalidArgumentError {
  /** What it is that it has. */
  readonly obstacle: string;

  constructor(obstacle: string) {
    super(`Cannot convert layer: ${obstacle}`);
    this.obstacle = obstacle;
  }
}

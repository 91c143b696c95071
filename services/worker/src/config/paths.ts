/** Read if it is there and no other one is named. */
export const defaultConfigFile = "/etc/buildkit/buildkitd.toml";

// Renders by @saintno/comfyui-sdk, unmodified: arguments are the address of the gateway and a workflow as JSON.
import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";

const [url, workflow] = process.argv.slice(2);
const api = await new ComfyApi(url, "npm-client").init().waitForReady();
if (!api.socket) throw new Error("no websocket");
const told = { progress: 0, previews: 0, checkpoints: await api.getCheckpoints(), stats: await api.getSystemStats() };
const prompt = new PromptBuilder(JSON.parse(workflow), ["seed"], ["images"])
  .setInputNode("seed", "3.inputs.seed")
  .setOutputNode("images", "9")
  .input("seed", 11);
const output = await new CallWrapper(api, prompt)
  .onProgress(() => (told.progress += 1))
  .onPreview(() => (told.previews += 1))
  .onFailed((error) => (told.failed = String(error)))
  .run();
told.paths = (output?.images?.images ?? []).map((image) => api.getPathImage(image));
const uploaded = await api.uploadImage(Buffer.from(await (await fetch(told.paths[0])).arrayBuffer()), "again.png");
told.uploaded = uploaded?.info?.filename;
console.log(JSON.stringify(told));
process.exit(0);

// Images by the npm packages openai and @ai-sdk/openai-compatible, unmodified; the argument is the gateway's address.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { experimental_generateImage as generateImage } from "ai";
import OpenAI from "openai";

const baseURL = `${process.argv[2]}/v1`;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const [model] = (await client.models.list()).data;
const images = await client.images.generate({ model: model.id, prompt: "a fox", n: 2, size: "64x64" });
const stream = await client.images.generate({ prompt: "a fox", size: "64x64", stream: true, partial_images: 1 });
const events = [];
for await (const event of stream) events.push(event.type);
const refused = await client.images.generate({ model: "dall-e-3", prompt: "a fox" }).catch((error) => error);

const provider = createOpenAICompatible({ name: "dreamforge", baseURL, apiKey: "none" });
const found = await generateImage({ model: provider.imageModel(model.id), prompt: "a fox", size: "64x64", maxRetries: 0 });

console.log(
  JSON.stringify({
    openai: images.data.map((image) => image.b64_json),
    events,
    refused: { status: refused.status, code: refused.code },
    ai_sdk: found.image.base64,
  }),
);

// What a program in TypeScript does with the types of docs/openapi/openapi.d.ts.
import type { components, paths } from "./openapi";

type Submission = NonNullable<paths["/v1/jobs"]["post"]["requestBody"]>["content"]["application/json"];
type Problem = components["schemas"]["ProblemReply"];

export const body: Submission = { prompt: "a fox", steps: 4 };
// @ts-expect-error: a prompt is text
export const wrong: Submission = { prompt: 7 };
export const told = (problem: Problem): string => `${problem.status} ${problem.code}`;

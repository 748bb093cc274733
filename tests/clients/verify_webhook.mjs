// Verifies a delivery by the npm package standardwebhooks: arguments are secret, headers as JSON, and the body.
import { Webhook } from "standardwebhooks";

const [secret, headers, body] = process.argv.slice(2);
console.log(JSON.stringify(new Webhook(secret).verify(body, JSON.parse(headers))));

// What the page asks of the server, with the token that the server wrote into it.

const token = document.querySelector("meta[name=offhook-token]").content;

/** The server's refusal: `status` (0: it did not answer) and words for the person at the page. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask for `path` below /phone/calls; return the JSON answer (null when there is none). Throws ServerError. */
export async function ask(method, path = "", body = undefined) {
  const headers = { "x-offhook-page": token };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(`/phone/calls${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new ServerError(0, "The server does not answer. Is “offhook serve” still running?");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new ServerError(response.status, answer?.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}

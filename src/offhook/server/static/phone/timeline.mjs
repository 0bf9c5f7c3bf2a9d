// What the server tells of a call, in words.

const WORDS = {
  IncomingCall: (entry) => ["App told of the call", `IncomingCall to ${number(entry.to)}`],
  "phone rings": (entry) => ["A phone rings", number(entry.to)],
  unreachable: (entry) => ["No app and no phone there", number(entry.to)],
  "stream opens": (entry) => ["Audio socket opens", entry.url],
  "stream warning": (entry) => [`Audio socket: ${entry.cause}`, entry.detail],
  CallConnected: () => ["App told: connected", "CallConnected"],
  ParticipantsUpdated: (entry) => ["App told: participants", `ParticipantsUpdated, ${entry.participants} in the call`],
  StreamingStarted: () => ["App told: audio flows", "MediaStreamingStarted"],
  StreamingStopped: () => ["App told: audio stopped", "MediaStreamingStopped"],
  StreamingFailed: (entry) => ["App told: no audio", `MediaStreamingFailed, ${entry.cause}: ${entry.detail}`],
  CallDisconnected: (entry) => ["App told: call over", `CallDisconnected, ${entry.cause}`],
  digits: (entry) => [entry.count === 1 ? "Key pressed" : `${entry.count} keys pressed`, ""],
  "leg ended": (entry) => ["Caller left", entry.cause],
  "call over": () => ["Call over", ""],
};

const number = (rawId) => rawId?.replace(/^4:/, "") ?? "";

const looksBad = (what) => /warning|fail|unreachable/i.test(what);

/** One entry of the server's timeline as {at: Unix seconds, title, detail, bad}. */
export function describe(entry) {
  const { at, what, ...details } = entry;
  const known = WORDS[what];
  const [title, detail] = known ? known(entry) : [what, Object.values(details).join(" ")];
  return { at, title, detail, bad: looksBad(what) };
}

/** Why a call ended: {text, help}, help only when something has to be done about it. */
export function explain(reason) {
  const [text, help = ""] = ENDS[reason] ?? [`Call ended: ${reason}`];
  return { text, help };
}

const ENDS = {
  "hung up": ["You hung up"],
  "hung up by this app": ["The app hung up"],
  "ended by an app": ["The app hung up"],
  "the other side hung up": ["The other side hung up"],
  "rejected by the called app": ["The app rejected the call"],
  "refused by the called app": ["The app refused the call"],
  declined: ["The call was declined"],
  busy: ["The line is busy"],
  "no answer": [
    "No answer",
    "The app was told of the call and did not answer it. Its log should say why; the server's says whether the IncomingCall event arrived.",
  ],
  unreachable: [
    "Nobody there",
    "No app is listening for calls. Start the server with --incoming and the URL where your app takes IncomingCall events, and start the app.",
  ],
  "media lost": ["The audio was lost", "The server's log says more."],
  "no audio socket": [
    "No connection",
    "The call's audio socket cannot be reached. If this page was opened over https, open it over http on 127.0.0.1 instead.",
  ],
  "connection lost": ["Connection lost", "The server went away in the middle of the call. Is “offhook serve” still running?"],
  "the server stops": ["The server stops"],
};

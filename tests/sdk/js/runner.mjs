// The JavaScript SDK as a runner (see ../runner.py): `node runner.mjs VERSION`, from where the SDK's versions lie.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { createIdentifierFromRawId, getIdentifierRawId } from "@azure/communication-common";

const version = process.argv[2];
const sdk = await import(`acs-${version}`);
const installed = createRequire(import.meta.url)(`./node_modules/acs-${version}/package.json`).version;

const FIRST = version === "1.0.0"; // startRecognizing(target, maxTones, options)
const FEATURES = {
  text: sdk.VoiceKind !== undefined,
  speech: sdk.VoiceKind !== undefined,
  streaming: sdk.StreamingData !== undefined,
  "play context": !FIRST, // 1.0.0 does not send it
  playlist: true,
  transferee: !FIRST,
  callbacks: !FIRST, // of their own for single operations
  headers: !FIRST,
  isOnHold: "hold" in sdk.CallMedia.prototype,
};

// ------------------------------------------------------------------------------------------------------- arguments

const identifier = (rawId) => {
  const { kind, ...bare } = createIdentifierFromRawId(rawId);
  return bare;
};
const source = ({ file, text, ssml, locale, voice }) => {
  if (file) return { kind: "fileSource", url: file };
  if (ssml) return { kind: "ssmlSource", ssmlText: ssml };
  return { kind: "textSource", text, sourceLocale: locale, voiceName: voice };
};
const RECOGNITIONS = {
  dtmf: "callMediaRecognizeDtmfOptions",
  speech: "callMediaRecognizeSpeechOptions",
  choices: "callMediaRecognizeChoiceOptions",
  speechOrDtmf: "callMediaRecognizeSpeechOrDtmfOptions",
};

// What goes into the options of a method: our name → the SDK's name, and its form.
const same = (value) => value;
const OPTIONS = {
  operationContext: ["operationContext", same],
  operationCallbackUri: ["operationCallbackUrl", same],
  mediaStreaming: ["mediaStreamingOptions", (given) => ({ ...given, audioFormat: "Pcm24KMono" })],
  callRejectReason: ["callRejectReason", same],
  invitationTimeoutInSeconds: ["invitationTimeoutInSeconds", same],
  transferee: ["transferee", identifier],
  loop: ["loop", same],
  playSource: ["playSource", source],
  prompt: ["playPrompt", source],
  type: ["kind", (type) => RECOGNITIONS[type]],
  interruptPrompt: ["interruptPrompt", same],
  initialSilenceTimeoutInSeconds: ["initialSilenceTimeoutInSeconds", same],
  interToneTimeoutInSeconds: ["interToneTimeoutInSeconds", same],
  maxTonesToCollect: ["maxTonesToCollect", same],
  stopTones: ["stopDtmfTones", same],
  choices: ["choices", same],
  speechLanguage: ["speechLanguage", same],
  endSilenceTimeoutInSeconds: ["endSilenceTimeoutInSeconds", same],
};
const options = (given) =>
  Object.fromEntries(
    Object.entries(given)
      .filter(([name]) => name in OPTIONS)
      .map(([name, value]) => [OPTIONS[name][0], OPTIONS[name][1](value)]),
  );
const invite = (given) => ({
  targetParticipant: identifier(given.invite),
  ...(given.sourceCallerIdNumber && { sourceCallIdNumber: { phoneNumber: given.sourceCallerIdNumber } }),
  ...(given.voipHeaders && {
    customCallingContext: Object.entries(given.voipHeaders).map(([key, value]) => ({ kind: "voip", key, value })),
  }),
});

// ---------------------------------------------------------------------------------------------------------- results

const rawId = (of) => of && getIdentifierRawId(of);
const participant = ({ identifier, isMuted, isOnHold }) => ({ identifier: rawId(identifier), isMuted, isOnHold });
const told = ({ participant: one, participants, operationContext, invitationId, fromCall }) => ({
  ...(one && { participant: participant(one) }),
  ...(participants && { participants: participants.map(participant) }),
  operationContext,
  invitationId,
  fromCall,
});
const properties = (of) => ({
  callConnectionId: of.callConnectionId,
  serverCallId: of.serverCallId,
  correlationId: of.correlationId,
  callConnectionState: of.callConnectionState,
  callbackUri: of.callbackUri, // typed as callbackUrl, which is never set
  source: rawId(of.source),
  sourceCallerIdNumber: of.sourceCallerIdNumber?.phoneNumber,
  targets: of.targetParticipants.map(rawId),
  mediaStreaming: of.mediaStreamingSubscription,
});
const ofCall = async (result) => properties((await result).callConnectionProperties);
const nothing = async (result) => {
  await result;
  return {};
};

// ------------------------------------------------------------------------------------------------------- operations

// Operation → [the class whose method it is, the method's name, what is done with an instance and the arguments].
const { CallAutomationClient: Client, CallConnection: Connection, CallMedia: Media } = sdk;
const OPERATIONS = {
  createCall: [Client, "createCall", (on, a) => ofCall(on.createCall(invite(a), a.callbackUri, options(a)))],
  answerCall: [Client, "answerCall", (on, a) => ofCall(on.answerCall(a.incomingCallContext, a.callbackUri, options(a)))],
  redirectCall: [Client, "redirectCall", (on, a) => nothing(on.redirectCall(a.incomingCallContext, invite(a)))],
  rejectCall: [Client, "rejectCall", (on, a) => nothing(on.rejectCall(a.incomingCallContext, options(a)))],
  connect: [
    Client,
    "connectCall",
    (on, a) => ofCall(on.connectCall({ kind: "serverCallLocator", id: a.serverCallId }, a.callbackUri, options(a))),
  ],
  getCall: [Connection, "getCallConnectionProperties", async (on) => properties(await on.getCallConnectionProperties())],
  hangUp: [Connection, "hangUp", (on) => nothing(on.hangUp(false))],
  terminate: [Connection, "hangUp", (on) => nothing(on.hangUp(true))],
  transferToParticipant: [
    Connection,
    "transferCallToParticipant",
    async (on, a) => told(await on.transferCallToParticipant(identifier(a.target), options(a))),
  ],
  listParticipants: [
    Connection,
    "listParticipants",
    async (on) => ({ participants: (await on.listParticipants()).values.map(participant) }),
  ],
  getParticipant: [
    Connection,
    "getParticipant",
    async (on, a) => participant(await on.getParticipant(identifier(a.target))),
  ],
  addParticipant: [Connection, "addParticipant", async (on, a) => told(await on.addParticipant(invite(a), options(a)))],
  removeParticipant: [
    Connection,
    "removeParticipant",
    async (on, a) => told(await on.removeParticipant(identifier(a.target), options(a))),
  ],
  mute: [
    Connection,
    "muteParticipant",
    async (on, a) => told(await on.muteParticipant(identifier(a.target), options(a))),
  ],
  cancelAddParticipant: [
    Connection,
    "cancelAddParticipantOperation",
    async (on, a) => told(await on.cancelAddParticipantOperation(a.invitationId, options(a))),
  ],
  moveParticipants: [
    Connection,
    "moveParticipants",
    async (on, a) => told(await on.moveParticipants(a.targets.map(identifier), a.fromCall, options(a))),
  ],
  play: [
    Media,
    "play",
    (on, a) => {
      const sources = a.sources.map(source);
      return nothing(a.to ? on.play(sources, a.to.map(identifier), options(a)) : on.playToAll(sources, options(a)));
    },
  ],
  cancelAllMediaOperations: [Media, "cancelAllOperations", (on) => nothing(on.cancelAllOperations())],
  recognize: [
    Media,
    "startRecognizing",
    (on, a) => {
      const target = identifier(a.target);
      return nothing(
        FIRST
          ? on.startRecognizing(target, a.maxTonesToCollect, options(a))
          : on.startRecognizing(target, options(a)),
      );
    },
  ],
  startContinuousDtmfRecognition: [
    Media,
    "startContinuousDtmfRecognition",
    (on, a) => nothing(on.startContinuousDtmfRecognition(identifier(a.target), options(a))),
  ],
  stopContinuousDtmfRecognition: [
    Media,
    "stopContinuousDtmfRecognition",
    (on, a) => nothing(on.stopContinuousDtmfRecognition(identifier(a.target), options(a))),
  ],
  sendDtmfTones: [
    Media,
    "sendDtmfTones",
    async (on, a) => told(await on.sendDtmfTones(a.tones, identifier(a.target), options(a))),
  ],
  hold: [Media, "hold", (on, a) => nothing(on.hold(identifier(a.target), options(a)))],
  unhold: [Media, "unhold", (on, a) => nothing(on.unhold(identifier(a.target), options(a)))],
  startMediaStreaming: [Media, "startMediaStreaming", (on, a) => nothing(on.startMediaStreaming(options(a)))],
  stopMediaStreaming: [Media, "stopMediaStreaming", (on, a) => nothing(on.stopMediaStreaming(options(a)))],
};

// -------------------------------------------------------------------------------------------------- the SDK's helpers

// The beta has the names that the documentation uses; later versions have functions for the same JSON.
const outboundAudio = sdk.createOutboundAudioData ?? sdk.OutStreamingData?.getStreamingDataForOutbound;
const outboundStop = sdk.createOutboundStopAudioData ?? sdk.OutStreamingData?.getStopAudioForOutbound;

// StreamingData.parse tells what it has read by the class alone, which is not exported: by its fields.
function readMessage(text) {
  const read = sdk.StreamingData.parse(text);
  if ("encoding" in read) return { kind: "AudioMetadata", ...read };
  if (Number.isNaN(Date.parse(read.timestamp))) throw new Error(`no timestamp in ${text.slice(0, 200)}`);
  return { kind: "AudioData", data: read.data, silent: read.isSilent, participant: rawId(read.participant) };
}

let client = new Client(process.env.ACS_CONNECTION_STRING);

const HELPERS = {
  signWith({ key }) {
    const [endpoint] = process.env.ACS_CONNECTION_STRING.split("accesskey=");
    client = new Client(`${endpoint}accesskey=${Buffer.from(key).toString("base64")}`);
    return {};
  },
  readEvent({ body }) {
    const { kind, ...event } = sdk.parseCallAutomationEvent(body);
    return { type: kind, ...event };
  },
  readMessages: ({ messages }) => ({ messages: messages.map(readMessage) }),
  writeAudio: ({ data }) => ({ message: outboundAudio(data) }),
  writeStop: () => ({ message: outboundStop() }),
};

async function answer({ do: what, on, with: given }) {
  try {
    if (what in HELPERS) return { result: HELPERS[what](given) };
    const [holder, , act] = OPERATIONS[what];
    const connection = () => client.getCallConnection(on);
    const instance = holder === Client ? client : holder === Connection ? connection() : connection().getCallMedia();
    return { result: await act(instance, given) };
  } catch (error) {
    if (error.name === "RestError" && error.statusCode && error.message) {
      return { refused: { status: error.statusCode, code: error.code } };
    }
    return { failed: error.stack };
  }
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({
  version: installed,
  operations: Object.keys(OPERATIONS).filter((name) => OPERATIONS[name][1] in OPERATIONS[name][0].prototype),
  features: Object.keys(FEATURES).filter((name) => FEATURES[name]),
});
for await (const line of createInterface({ input: process.stdin })) say(await answer(JSON.parse(line)));

// An app on the official JavaScript SDK, from its connection string: every operation and what comes of it.
//
// `node scenario.mjs VERSION`. Every callback and every message on the audio socket goes through the SDK's own parsers,
// and what is said is built by the SDK. What happens around the app (callers, phones, events) is asked of the stage, see
// conftest.py.

import assert from "node:assert/strict";

const version = process.argv[2];
const sdk = await import(`acs-${version}`);

const STAGE = process.env.STAGE;
const CONNECTION_STRING = process.env.ACS_CONNECTION_STRING;
const CALLBACKS = `${STAGE}/callbacks?from=the-app`;
const STREAMING = {
  transportUrl: `${STAGE.replace("http:", "ws:")}/audio`,
  transportType: "websocket",
  contentType: "audio",
  audioChannelType: "mixed",
  startMediaStreaming: true,
  enableBidirectional: true,
  audioFormat: "Pcm24KMono",
};
const FRAME_BYTES = 960;

// The beta has the names that the documentation uses; later versions have functions for the same JSON.
const outboundAudio = sdk.createOutboundAudioData ?? sdk.OutStreamingData.getStreamingDataForOutbound;
const outboundStop = sdk.createOutboundStopAudioData ?? sdk.OutStreamingData.getStopAudioForOutbound;

// Ask the stage; see its methods of the same names.
async function ask(what, body = "", query = {}) {
  const posted = ["call", "phone", "speak", "send", "hangup"].includes(what);
  const options = posted ? { method: "POST", body } : {};
  const answer = await fetch(`${STAGE}/${what}?${new URLSearchParams(query)}`, options);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text);
}

// Wait for this event; return it as the SDK parses it.
async function event(kind, connection, context) {
  const parsed = sdk.parseCallAutomationEvent(await ask("event", "", { type: kind, connection }));
  assert.equal(parsed.kind, kind);
  assert.equal(parsed.operationContext, context);
  return parsed;
}

// `call()` has to reject with this status and ACS code.
async function refused(call, statusCode, code) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, "RestError");
    assert.deepEqual([error.statusCode, error.code], [statusCode, code]);
    assert.ok(error.message);
    return true;
  });
}

// The frames of a socket that are not silent. The first message has to be the metadata.
function sound(socket) {
  const [metadata, ...frames] = socket.messages.map((message) => sdk.StreamingData.parse(message));
  assert.equal(metadata.encoding, "PCM");
  assert.equal(metadata.sampleRate, 24000);
  assert.equal(metadata.channels, sdk.Channel.Mono);
  if (version === "1.4.0-beta.1") assert.equal(metadata.length, FRAME_BYTES); // later ones drop it
  for (const frame of frames) {
    assert.equal(typeof frame.isSilent, "boolean");
    assert.equal(frame.participant, undefined);
    assert.ok(!Number.isNaN(Date.parse(frame.timestamp)));
  }
  return frames.filter((frame) => !frame.isSilent).map((frame) => Buffer.from(frame.data, "base64"));
}

// Answer with media streaming, talk, stop and start it, hang up for everyone.
async function talk(client) {
  const incoming = await ask("call");
  const answered = await client.answerCall(incoming.incomingCallContext, CALLBACKS, {
    mediaStreamingOptions: STREAMING,
    operationContext: "to answer",
  });
  const { callConnectionId: id, mediaStreamingSubscription } = answered.callConnectionProperties;
  assert.equal(answered.callConnectionProperties.callConnectionState, "connecting");
  assert.equal(answered.callConnectionProperties.correlationId, incoming.correlationId);
  assert.equal(answered.callConnectionProperties.serverCallId, incoming.serverCallId);
  assert.equal(mediaStreamingSubscription.state, "inactive");
  const connection = client.getCallConnection(id);
  await event("CallConnected", id, "to answer");
  await event("MediaStreamingStarted", id, "to answer");

  const properties = await connection.getCallConnectionProperties();
  assert.equal(properties.callConnectionState, "connected");
  assert.equal(properties.callbackUri, CALLBACKS); // typed as callbackUrl, which is never set
  assert.equal(properties.source.phoneNumber, incoming.from.phoneNumber.value);
  assert.equal(properties.source.rawId, incoming.from.rawId);
  assert.deepEqual(properties.mediaStreamingSubscription, { ...mediaStreamingSubscription, state: "active" });
  await participants(connection, incoming.from.phoneNumber.value);
  await echo(id);
  await streamingAgain(connection, id);

  const playing = () => connection.getCallMedia().playToAll([{ kind: "fileSource", url: "https://app.example/a.wav" }]);
  await refused(playing, 501, "8520");
  await connection.hangUp(true);
  await event("MediaStreamingStopped", id, "to start");
  const { resultInformation } = await event("CallDisconnected", id, "to answer");
  assert.equal(resultInformation.subCode, 7000);
  await ask("party", "", { who: "caller", state: "ended" });
  await refused(() => connection.getCallConnectionProperties(), 404, "8522");
  await refused(() => connection.hangUp(false), 404, "8522");
}

// The caller's id has `:` and `+` in it, the app's own `:` and `_`: they are path segments of getParticipant.
async function participants(connection, caller) {
  const { values } = await connection.listParticipants();
  const app = values.map((each) => each.identifier).find((identifier) => identifier.communicationUserId);
  assert.equal(values.length, 2);
  for (const [wanted, key] of [[{ phoneNumber: caller }, "phoneNumber"], [app, "communicationUserId"]]) {
    const participant = await connection.getParticipant(wanted);
    assert.equal(participant.identifier[key], wanted[key]);
    assert.deepEqual([participant.isMuted, participant.isOnHold], [false, false]);
  }
  await refused(() => connection.getParticipant({ phoneNumber: "+15550999" }), 404, "8522");
}

// Send the caller its own voice, once; then forty times over, to be stopped.
async function echo(id) {
  await ask("speak");
  const [socket] = await ask("sockets", "", { count: 1 });
  assert.equal(socket.callConnectionId, id);
  const voice = sound(socket);
  assert.ok(voice.length > 0 && voice.every((frame) => frame.length === FRAME_BYTES));
  const say = outboundAudio(Buffer.concat(voice).toString("base64"));
  await ask("send", say);
  await ask("heard", "", { what: "voice" });
  for (let times = 0; times < 40; times++) await ask("send", say);
  await ask("heard", "", { what: "sound" });
  await ask("send", outboundStop());
  await ask("heard", "", { what: "silence" });
}

async function streamingAgain(connection, id) {
  const media = connection.getCallMedia();
  const state = async () => (await connection.getCallConnectionProperties()).mediaStreamingSubscription.state;
  await media.stopMediaStreaming({ operationContext: "to stop" });
  await event("MediaStreamingStopped", id, "to stop");
  assert.equal(await state(), "inactive");
  await media.startMediaStreaming({ operationContext: "to start" });
  await event("MediaStreamingStarted", id, "to start");
  assert.equal(await state(), "active");
  const [first, second] = await ask("sockets", "", { count: 2 });
  assert.deepEqual(JSON.parse(first.messages[0]), JSON.parse(second.messages[0]));
}

async function callAPhone(client, phoneNumber) {
  const invite = { targetParticipant: { phoneNumber }, sourceCallIdNumber: { phoneNumber: "+15550111" } };
  const created = await client.createCall(invite, CALLBACKS, { operationContext: "to call" });
  const id = created.callConnectionProperties.callConnectionId;
  assert.equal(created.callConnectionProperties.targetParticipants[0].phoneNumber, phoneNumber);
  await event("CallConnected", id, "to call");
  await ask("party", "", { who: "phone", state: "connected" });
  const connection = client.getCallConnection(id);
  const properties = await connection.getCallConnectionProperties();
  assert.equal(properties.callConnectionState, "connected");
  assert.equal(properties.sourceCallerIdNumber.phoneNumber, "+15550111");
  assert.equal(properties.mediaStreamingSubscription.state, "disabled");
  await connection.hangUp(false);
  await event("CallDisconnected", id, "to call");
  await ask("party", "", { who: "phone", state: "waiting" });
}

async function rejectAndRedirect(client, phoneNumber) {
  const { KnownCallRejectReason: reasons } = sdk;
  for (const [reason, told] of [[reasons.None, "rejected"], [reasons.Busy, "busy"], [reasons.Forbidden, "refused"]]) {
    const { incomingCallContext } = await ask("call");
    await client.rejectCall(incomingCallContext, { callRejectReason: reason });
    assert.ok((await ask("party", "", { who: "caller", state: "ended" })).includes(told));
    await refused(() => client.answerCall(incomingCallContext, CALLBACKS), 404, "8522");
  }
  const { incomingCallContext } = await ask("call");
  await client.redirectCall(incomingCallContext, { targetParticipant: { phoneNumber } });
  for (const who of ["caller", "phone"]) await ask("party", "", { who, state: "connected" });
  await ask("hangup");
  await ask("party", "", { who: "phone", state: "waiting" });
}

async function wrongKey() {
  const [endpoint] = CONNECTION_STRING.split("accesskey=");
  const key = Buffer.from("wrong").toString("base64");
  const connection = new sdk.CallAutomationClient(`${endpoint}accesskey=${key}`).getCallConnection(
    "00000000-0000-0000-0000-000000000000",
  );
  await refused(() => connection.getCallConnectionProperties(), 401, "7509");
}

const client = new sdk.CallAutomationClient(CONNECTION_STRING);
await talk(client);
const phone = await ask("phone");
await callAPhone(client, phone);
await rejectAndRedirect(client, phone);
await wrongKey();

const kinds = (await ask("callbacks")).map((body) => sdk.parseCallAutomationEvent(body).kind);
assert.ok(kinds.includes("ParticipantsUpdated"), kinds.join());
const sockets = await ask("sockets", "", { count: 2 });
for (const message of sockets.flatMap((socket) => socket.messages)) sdk.StreamingData.parse(message);

import com.azure.communication.callautomation.CallAutomationClient;
import com.azure.communication.callautomation.CallAutomationClientBuilder;
import com.azure.communication.callautomation.CallAutomationEventParser;
import com.azure.communication.callautomation.CallConnection;
import com.azure.communication.callautomation.CallMedia;
import com.azure.communication.callautomation.models.AddParticipantOptions;
import com.azure.communication.callautomation.models.AnswerCallOptions;
import com.azure.communication.callautomation.models.CallConnectionProperties;
import com.azure.communication.callautomation.models.CallInvite;
import com.azure.communication.callautomation.models.CallMediaRecognizeDtmfOptions;
import com.azure.communication.callautomation.models.CallParticipant;
import com.azure.communication.callautomation.models.CallRejectReason;
import com.azure.communication.callautomation.models.CreateCallOptions;
import com.azure.communication.callautomation.models.FileSource;
import com.azure.communication.callautomation.models.PlayOptions;
import com.azure.communication.callautomation.models.PlaySource;
import com.azure.communication.callautomation.models.PlayToAllOptions;
import com.azure.communication.callautomation.models.RedirectCallOptions;
import com.azure.communication.callautomation.models.RejectCallOptions;
import com.azure.communication.callautomation.models.RemoveParticipantOptions;
import com.azure.communication.callautomation.models.TransferCallToParticipantOptions;
import com.azure.communication.callautomation.models.events.CallAutomationEventBase;
import com.azure.communication.callautomation.models.events.CallAutomationEventBaseWithReasonCode;
import com.azure.communication.common.CommunicationIdentifier;
import com.azure.communication.common.CommunicationUserIdentifier;
import com.azure.communication.common.PhoneNumberIdentifier;
import com.azure.core.exception.HttpResponseException;
import com.azure.core.util.Context;
import com.azure.core.util.CoreUtils;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The Java SDK as a runner (see ../runner.py): {@code java -cp 'FOLDER/*' Runner.java}.
 *
 * <p>For 1.0.4, api-version 2023-03-06: files, digits, people; no text, speech or streaming.
 */
public final class Runner {
    private interface Operation {
        Object act(JsonNode given, String on) throws Exception;
    }

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final List<String> FEATURES = List.of("play context", "playlist");

    private final Map<String, Operation> operations = new TreeMap<>();
    private CallAutomationClient client = connect(System.getenv("ACS_CONNECTION_STRING"));

    private Runner() {
        operations.put("createCall", (given, on) -> create(given));
        operations.put("answerCall", (given, on) -> answer(given));
        operations.put("redirectCall", (given, on) -> client.redirectCallWithResponse(
                new RedirectCallOptions(text(given, "incomingCallContext"), invite(given)), Context.NONE));
        operations.put("rejectCall", (given, on) -> reject(given));
        operations.put("getCall", (given, on) -> properties(connection(on).getCallProperties()));
        operations.put("hangUp", (given, on) -> connection(on).hangUpWithResponse(false, Context.NONE));
        operations.put("terminate", (given, on) -> connection(on).hangUpWithResponse(true, Context.NONE));
        operations.put("transferToParticipant", (given, on) -> context(connection(on)
                .transferCallToParticipantWithResponse(new TransferCallToParticipantOptions(target(given))
                        .setOperationContext(text(given, "operationContext")), Context.NONE)
                .getValue().getOperationContext()));
        operations.put("listParticipants", (given, on) -> Map.of("participants",
                connection(on).listParticipants().stream().map(Runner::participant).toList()));
        operations.put("getParticipant", (given, on) -> participant(connection(on).getParticipant(target(given))));
        operations.put("addParticipant", (given, on) -> add(given, on));
        operations.put("removeParticipant", (given, on) -> context(connection(on)
                .removeParticipantWithResponse(new RemoveParticipantOptions(target(given))
                        .setOperationContext(text(given, "operationContext")), Context.NONE)
                .getValue().getOperationContext()));
        operations.put("play", (given, on) -> play(given, media(on)));
        operations.put("cancelAllMediaOperations",
                (given, on) -> media(on).cancelAllMediaOperationsWithResponse(Context.NONE));
        operations.put("recognize", (given, on) -> recognize(given, media(on)));
    }

    // ------------------------------------------------------------------------------------------------- operations

    private Object create(JsonNode given) {
        String callbacks = text(given, "callbackUri");
        String context = text(given, "operationContext");
        CallInvite invite = invite(given);
        return properties(client.createCallWithResponse(
                new CreateCallOptions(invite, callbacks).setOperationContext(context), Context.NONE)
                .getValue().getCallConnectionProperties());
    }

    private Object answer(JsonNode given) {
        AnswerCallOptions options = new AnswerCallOptions(text(given, "incomingCallContext"), text(given, "callbackUri"))
                .setOperationContext(text(given, "operationContext"));
        return properties(client.answerCallWithResponse(options, Context.NONE).getValue().getCallConnectionProperties());
    }

    private Object reject(JsonNode given) {
        RejectCallOptions options = new RejectCallOptions(text(given, "incomingCallContext"));
        if (given.has("callRejectReason")) {
            options.setCallRejectReason(CallRejectReason.fromString(text(given, "callRejectReason")));
        }
        return client.rejectCallWithResponse(options, Context.NONE);
    }

    private Object add(JsonNode given, String on) {
        var options = new AddParticipantOptions(invite(given)).setOperationContext(text(given, "operationContext"));
        var added = connection(on).addParticipantWithResponse(options, Context.NONE).getValue();
        Map<String, Object> said = context(added.getOperationContext());
        said.put("participant", participant(added.getParticipant()));
        return said;
    }

    private static Object play(JsonNode given, CallMedia media) {
        List<PlaySource> sources = new ArrayList<>();
        given.get("sources").forEach(each -> sources.add(source(each)));
        String context = text(given, "operationContext");
        boolean loop = given.path("loop").asBoolean(false);
        if (!given.has("to")) {
            return media.playToAllWithResponse(
                    new PlayToAllOptions(sources).setLoop(loop).setOperationContext(context), Context.NONE);
        }
        List<CommunicationIdentifier> to = new ArrayList<>();
        given.get("to").forEach(each -> to.add(identifier(each.asText())));
        return media.playWithResponse(
                new PlayOptions(sources, to).setLoop(loop).setOperationContext(context), Context.NONE);
    }

    private static Object recognize(JsonNode given, CallMedia media) {
        var options = new CallMediaRecognizeDtmfOptions(target(given), given.get("maxTonesToCollect").asInt());
        options.setOperationContext(text(given, "operationContext"));
        options.setInterruptPrompt(given.path("interruptPrompt").asBoolean(false));
        options.setInitialSilenceTimeout(Duration.ofSeconds(given.path("initialSilenceTimeoutInSeconds").asInt(5)));
        options.setInterToneTimeout(Duration.ofSeconds(given.path("interToneTimeoutInSeconds").asInt(2)));
        if (given.has("prompt")) {
            options.setPlayPrompt(source(given.get("prompt")));
        }
        return media.startRecognizingWithResponse(options, Context.NONE);
    }

    private Object signWith(JsonNode given) {
        String endpoint = System.getenv("ACS_CONNECTION_STRING").split("accesskey=")[0];
        byte[] key = text(given, "key").getBytes(StandardCharsets.UTF_8);
        client = connect(endpoint + "accesskey=" + Base64.getEncoder().encodeToString(key));
        return null;
    }

    // -------------------------------------------------------------------------------------------------- arguments

    private static CallAutomationClient connect(String connectionString) {
        return new CallAutomationClientBuilder().connectionString(connectionString).buildClient();
    }

    private CallConnection connection(String id) {
        return client.getCallConnection(id);
    }

    private CallMedia media(String id) {
        return connection(id).getCallMedia();
    }

    private static String text(JsonNode given, String name) {
        return given.hasNonNull(name) ? given.get(name).asText() : null;
    }

    private static CommunicationIdentifier identifier(String rawId) {
        return rawId.startsWith("4:")
                ? new PhoneNumberIdentifier(rawId.substring(2))
                : new CommunicationUserIdentifier(rawId);
    }

    private static CommunicationIdentifier target(JsonNode given) {
        return identifier(text(given, "target"));
    }

    private static CallInvite invite(JsonNode given) {
        if (identifier(text(given, "invite")) instanceof CommunicationUserIdentifier user) {
            return new CallInvite(user);
        }
        var number = (PhoneNumberIdentifier) identifier(text(given, "invite"));
        return new CallInvite(number, new PhoneNumberIdentifier(text(given, "sourceCallerIdNumber")));
    }

    private static PlaySource source(JsonNode given) {
        return new FileSource().setUrl(text(given, "file"));
    }

    // ---------------------------------------------------------------------------------------------------- results

    private static Map<String, Object> context(String operationContext) {
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("operationContext", operationContext);
        return said;
    }

    private static Map<String, Object> participant(CallParticipant of) {
        return Map.of("identifier", of.getIdentifier().getRawId(), "isMuted", of.isMuted());
    }

    private static Map<String, Object> properties(CallConnectionProperties of) {
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("callConnectionId", of.getCallConnectionId());
        said.put("serverCallId", of.getServerCallId());
        said.put("correlationId", of.getCorrelationId());
        said.put("callConnectionState", of.getCallConnectionState().toString());
        said.put("callbackUri", of.getCallbackUrl());
        said.put("source", of.getSource() == null ? null : of.getSource().getRawId());
        said.put("sourceCallerIdNumber",
                of.getSourceCallerIdNumber() == null ? null : of.getSourceCallerIdNumber().getPhoneNumber());
        said.put("targets", of.getTargetParticipants().stream().map(CommunicationIdentifier::getRawId).toList());
        return said;
    }

    private static Map<String, Object> readEvent(JsonNode given) {
        List<CallAutomationEventBase> events = CallAutomationEventParser.parseEvents(text(given, "body"));
        CallAutomationEventBase event = events.get(0);
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("type", event.getClass().getSimpleName());
        said.put("callConnectionId", event.getCallConnectionId());
        said.put("serverCallId", event.getServerCallId());
        said.put("correlationId", event.getCorrelationId());
        said.put("operationContext", event.getOperationContext());
        if (event instanceof CallAutomationEventBaseWithReasonCode told && told.getResultInformation() != null) {
            var result = told.getResultInformation();
            said.put("resultInformation", Map.of(
                    "code", result.getCode(), "subCode", result.getSubCode(), "message", result.getMessage()));
        }
        return said;
    }

    // ------------------------------------------------------------------------------------------------------ doing

    private Map<String, Object> reply(JsonNode command) {
        Map<String, Object> reply = new LinkedHashMap<>();
        try {
            JsonNode given = command.get("with");
            Object result = switch (command.get("do").asText()) {
                case "signWith" -> signWith(given);
                case "readEvent" -> readEvent(given);
                default -> operations.get(command.get("do").asText()).act(given, text(command, "on"));
            };
            reply.put("result", result instanceof Map ? result : Map.of());
        } catch (HttpResponseException error) {
            String code = JSON.valueToTree(error.getValue()).path("error").path("code").asText();
            reply.put("refused", Map.of("status", error.getResponse().getStatusCode(), "code", code));
        } catch (Exception error) {
            StringWriter trace = new StringWriter();
            error.printStackTrace(new PrintWriter(trace));
            reply.put("failed", trace.toString());
        }
        return reply;
    }

    /** Answers commands until there are no more. */
    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        Runner runner = new Runner();
        String version = CoreUtils.getProperties("azure-communication-callautomation.properties").get("version");
        out.println(JSON.writeValueAsString(
                Map.of("version", version, "operations", runner.operations.keySet(), "features", FEATURES)));
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(JSON.writeValueAsString(runner.reply(JSON.readTree(line))));
        }
        System.exit(0); // the SDK's own threads would not end
    }
}

package payment;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** An answer as it is sent: headers and value. A stored one is sent again as it is. */
record Answer(Map<String, String> headers, String value) {
    /** done or refused, with its message. */
    static Answer of(Command to, String outcome, String type, JsonNode message) {
        return made(to, outcome, type, to.id() + ":reply", message);
    }

    static Answer nothing(Command to) {
        return of(to, "nothing", "saga.nothing.v1", JsonNodeFactory.instance.objectNode());
    }

    /** failed or expired: of one attempt, so its id is new each time, and it is never stored. */
    static Answer unsettled(Command to, String outcome, String reason) {
        JsonNode message = JsonNodeFactory.instance.objectNode().put("reason", reason.substring(0, Math.min(reason.length(), 2000)));
        return made(to, outcome, "saga." + outcome + ".v1", to.id() + ":" + outcome + ":" + to.origin(), message);
    }

    private static Answer made(Command to, String outcome, String type, String id, JsonNode message) {
        Map<String, String> headers = new LinkedHashMap<>();
        headers.put("ce_specversion", "1.0");
        headers.put("content-type", "application/json");
        headers.put("ce_id", id);
        headers.put("ce_type", type);
        headers.put("ce_source", "payment");
        headers.put("ce_time", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
        headers.put("ce_sagaoutcome", outcome);
        for (String name : List.of("ce_subject", "ce_sagainstance", "ce_sagacommand", "ce_sagaaction", "ce_sagaattempt", "traceparent")) {
            if (to.headers.containsKey(name)) {
                headers.put(name, to.header(name));
            }
        }
        return new Answer(headers, message.toString());
    }
}

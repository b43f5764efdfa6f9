"""The words of message traces: column names by their aliases, statuses, events; in the languages seen.

Compared without case, blanks and marks, so `sender_address`, `SenderAddress` and `Sender address` are one.

Source: microsoft.md sections 2 and 3. Exchange Online documents English only; the translations are those of
its admin centre's languages as far as they are known, and an unknown word is reported, never guessed.
"""

from __future__ import annotations

import re
from functools import lru_cache

from resubmit.model.evidence import Status


def fold(word: str) -> str:
    """A word as it is compared."""
    return _folded(word) if len(word) <= _SHORT else _folded.__wrapped__(word)


@lru_cache(1024)  # a trace has a few words, a million times
def _folded(word: str) -> str:
    return re.sub(r"[\s_\-.'\"()/:\ufeff]+", "", word).casefold()


_SHORT = 64


_COLUMNS = {
    "received": """
        received receivedutc receiveddate receiveddatetime datereceived date dateutc datetime datetimeutc
        timestamp timestamputc origintimestamp origintimestamputc receivedtime receiveddateutc
        datum datumutc empfangen empfangenam reçu datedereception datederéception fecha fechautc recibido data
        datautc ricevuto recebido ontvangen 日付 受信日時 日期 """,
    "sender": """
        sender senderaddress from fromaddress absender absenderadresse expéditeur adressedelexpéditeur
        remitente direccióndelremitente mittente indirizzomittente remetente endereçodoremetente afzender
        差出人 送信者 发件人""",
    "recipient": """
        recipient recipientaddress recipients to empfänger empfängeradresse destinataire adressedudestinataire
        destinatario direccióndeldestinatario indirizzodestinatario destinatário endereçododestinatário
        ontvanger geadresseerde 受信者 宛先 收件人""",
    "status": """
        status deliverystatus zustellungsstatus übermittlungsstatus état statut étatderemise estado
        estadodeentrega stato statoconsegna 状態 ステータス 状态""",
    "subject": "subject messagesubject betreff objet sujet asunto oggetto assunto onderwerp 件名 主题",
    "message_id": """
        messageid internetmessageid nachrichtenid nachrichtid iddumessage idmessage iddemensaje iddelmensaje
        idmessaggio idmensagem iddamensagem berichtid メッセージid 邮件id""",
    "network": "messagetraceid networkmessageid networkid id netzwerknachrichtenid",
    "size": "size totalbytes sizebytes messagesize größe taille tamaño dimensioni tamanho grootte サイズ",
    "to_ip": "toip",
    "event": "event eventid ereignis événement evento gebeurtenis イベント",
    "detail": "detail details description",
    "action": "action",
    "data": "data",
    "source": "source",
    "recipient_status": "recipientstatus",
    "related": "relatedrecipientaddress",
    "server_host": "serverhostname",
    "server_ip": "serverip",
    "return_path": "returnpath",
}
_ALIASES = {fold(alias): name for name, aliases in _COLUMNS.items() for alias in aliases.split()}


def columns(header: list[str]) -> dict[str, int]:
    """Which column holds what, by name; the first of two with the same meaning.

    `Data` is the XML of a detail row beside an `Event`, and "date" in Italian and Portuguese elsewhere;
    `Date` is a detail row's own time.
    """
    folded = [fold(word) for word in header]
    has_event = any(_ALIASES.get(word) == "event" for word in folded)
    found: dict[str, int] = {}
    for place, word in enumerate(folded):
        name = _ALIASES.get(word)
        if word == "data":
            name = "data" if has_event else "received"
        if name is not None:
            found.setdefault(name, place)
    return found


def is_utc(name: str) -> bool:
    """Whether a time column says itself that it is UTC: `date_time_utc`, `Date (UTC)`."""
    return fold(name).endswith("utc")


_STATUSES = {
    Status.DELIVERED: """
        delivered recalled zugestellt übermittelt remis distribué livré entregado recapitato consegnato
        entregue bezorgd afgeleverd 配信済み 配信済 已送达 已传递 доставлено
        levererat leveret levert dostarczono""",
    Status.PENDING: """
        pending gettingstatus inprogress ausstehend statuswirdabgerufen enattente obtentiondelétat
        récupérationdelétat pendiente obteniendoestado insospeso recuperodellostato pendente obtendostatus
        inbehandeling statusophalen wordtverwerkt 保留中 ステータスの取得中 挂起 待处理 获取状态""",
    Status.FAILED: """
        failed fehlgeschlagen fehler fehlerhaft échec aéchoué échoué error conerrores fallido incorrecto
        nonriuscito nonriuscita errore falha falhou comfalha mislukt 失敗 失败""",
    Status.EXPANDED: """
        expanded resolved erweitert aufgelöst développé étendu résolu expandido resuelto espanso risolto
        resolvido uitgevouwen uitgebreid opgelost 展開済み 展開 解決済み 已展开 已解析""",
    Status.FILTERED: """
        quarantined filteredasspam inquarantäne unterquarantäne unterquarantänegestellt alsspamgefiltert
        miseenquarantaine misenquarantaine enquarantaine filtrécommecourrierindésirable filtrécommespam
        encuarentena filtradocomocorreonodeseado filtradocomospam inquarantena filtratocomepostaindesiderata
        filtratocomespam emquarentena filtradocomolixoeletrônico inquarantaine gefilterdalsspam 検疫済み 検疫
        スパムとしてフィルター処理済み 已隔离 筛选为垃圾邮件""",
    Status.NONE: "none keine aucun aucune ninguno nessuno nenhum geen",
}
_STATUS_OF = {fold(word): status for status, words in _STATUSES.items() for word in words.split()}


def status_of(word: str) -> Status | None:
    """What a trace's status word says; None for a word not known here. An empty one says nothing."""
    folded = fold(word)
    return Status.NONE if not folded else _STATUS_OF.get(folded)


_EVENTS = {
    "taken": "receive submit resubmit clientsubmission",
    "delivered": "deliver delivered duplicatedeliver",
    "passed_on": "send sendexternal sent",
    "deferred": "defer submitdefer resubmitdefer",
    "failed": "fail failed submitfail resubmitfail deliverfail badmail poisonmessage",
    "expanded": "expanddl expand expanded",
    "dropped": "drop",
    "judged": "spam malware quarantine",
    "redirected": "redirect resolve",
    # What happened to the mail inside, without a word about where a recipient stands.
    "silent": """
        transfer agentinfo dsn haredirect haredirectfail hareceive hadiscard initmessagecreated load
        notifymapi process suppressed throttle moderationexpire moderationapprove moderationreject
        moderatorsallndr duplicateexpand duplicateredirect transportrule dlprule journal journalreport
        duplicate""",
}
_EVENT_OF = {fold(word): kind for kind, words in _EVENTS.items() for word in words.split()}


def event_kind(word: str) -> str:
    """What sort of event a detail row tells of; "" for one not known here."""
    return _EVENT_OF.get(fold(word), "")
